import { pause } from "@cocoon-net/core";
import { isRunningLab } from "../lab-directory.ts";
import { command, ip, ipBatch } from "./ip-command.ts";

const stem = "cocoon";

/** The prefix of this lab's namespaces; it holds the pid, so that what a killed lab left can be told. */
export function namespacePrefix(pid: number): string {
  return `${stem}${pid}`;
}

/** Removes the namespaces of labs that are gone. @returns how many there were */
export async function removeLeftoverNamespaces(): Promise<number> {
  const owners = new Set((await namespaces()).map((name) => new RegExp(`^${stem}(\\d+)-`).exec(name)?.[1]));
  let removed = 0;
  for (const owner of owners) {
    if (owner === undefined || isRunningLab(Number(owner))) continue;
    removed += await removeNamespaces(namespacePrefix(Number(owner)));
  }
  return removed;
}

/** Ends every process inside the namespaces of that prefix, then removes them. Links go with them. */
export async function removeNamespaces(prefix: string): Promise<number> {
  const own = (await namespaces()).filter((name) => name.startsWith(`${prefix}-`));
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const deadline = performance.now() + 2_000;
    for (let pids = await processesIn(own); pids.length > 0; pids = await processesIn(own)) {
      for (const pid of pids) kill(pid, signal);
      if (performance.now() > deadline) break;
      await pause(50);
    }
  }
  await ipBatch(own.map((name) => `netns delete ${name}`));
  return own.length;
}

async function namespaces(): Promise<string[]> {
  const list = await command("ip", ["-j", "netns", "list"]);
  return list.trim() === "" ? [] : (JSON.parse(list) as { name: string }[]).map(({ name }) => name);
}

/** Whatever runs in a namespace of ours is ours. */
async function processesIn(names: readonly string[]): Promise<number[]> {
  const lists = await Promise.all(names.map((name) => ip("netns", "pids", name).catch(() => "")));
  return lists
    .join("\n")
    .split("\n")
    .filter((line) => line !== "")
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
