import { readdirSync, readFileSync } from "node:fs";
import { pause } from "@cocoon-net/core";
import { command, ip } from "./ip-command.ts";

const stem = "cocoon";

/** The prefix of this lab's namespaces; it holds the pid, so that what a killed lab left can be told. */
export function namespacePrefix(pid: number): string {
  return `${stem}${pid}`;
}

/** Removes namespaces of labs whose process is gone. @returns how many there were */
export async function removeLeftovers(): Promise<number> {
  const owners = new Set((await namespaces()).map((name) => new RegExp(`^${stem}(\\d+)-`).exec(name)?.[1]));
  let removed = 0;
  for (const owner of owners) {
    if (owner === undefined || isLab(Number(owner))) continue;
    removed += await removeNamespaces(namespacePrefix(Number(owner)));
  }
  return removed;
}

/** Ends every process inside the namespaces of that prefix, then removes them. Links go with them. */
export async function removeNamespaces(prefix: string): Promise<number> {
  const own = (await namespaces()).filter((name) => name.startsWith(`${prefix}-`));
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (const name of own) {
      for (const pid of (await ip("netns", "pids", name)).split("\n").filter((line) => line !== "")) {
        if (Number(pid) !== process.pid) kill(Number(pid), signal);
      }
    }
    if (signal === "SIGTERM") await empty(own, 3_000);
  }
  await empty(own, 3_000);
  for (const name of own) await ip("netns", "delete", name);
  return own.length;
}

async function namespaces(): Promise<string[]> {
  const list = await command("ip", ["-j", "netns", "list"]);
  return list.trim() === "" ? [] : (JSON.parse(list) as { name: string }[]).map(({ name }) => name);
}

async function empty(names: readonly string[], timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (const name of names) {
    while ((await ip("netns", "pids", name)).trim() !== "" && performance.now() < deadline) await pause(50);
  }
}

function isLab(pid: number): boolean {
  try {
    return (
      readdirSync(`/proc/${pid}`).length > 0 && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("lab")
    );
  } catch {
    return false;
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
