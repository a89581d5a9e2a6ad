import { existsSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { pause } from "@cocoon-net/core";
import { isRunningLab } from "../lab-directory.ts";
import { ipBatch } from "./ip-command.ts";

const stem = "cocoon";
/** Where `ip netns` keeps them. */
const directory = "/run/netns";

/** The prefix of this lab's namespaces; it holds the pid, so that what a killed lab left can be told. */
export function namespacePrefix(pid: number): string {
  return `${stem}${pid}`;
}

/** Removes the namespaces of labs that are gone. @returns how many there were */
export async function removeLeftoverNamespaces(): Promise<number> {
  const owners = new Set(namespaces().map((name) => new RegExp(`^${stem}(\\d+)-`).exec(name)?.[1]));
  let removed = 0;
  for (const owner of owners) {
    if (owner === undefined || isRunningLab(Number(owner))) continue;
    removed += await removeNamespaces(namespacePrefix(Number(owner)));
  }
  return removed;
}

/** Ends every process inside the namespaces of that prefix, then removes them. Links go with them. */
export async function removeNamespaces(prefix: string): Promise<number> {
  const own = namespaces().filter((name) => name.startsWith(`${prefix}-`));
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const deadline = performance.now() + 2_000;
    for (let pids = processesIn(own); pids.length > 0; pids = processesIn(own)) {
      for (const pid of pids) kill(pid, signal);
      if (performance.now() > deadline) break;
      await pause(50);
    }
  }
  const removals = own.map((name) => `netns delete ${name}`);
  await ipBatch(removals, { force: true }).catch((error: unknown) => {
    // Labs that start at once remove the same leftovers.
    if (namespaces().some((name) => own.includes(name))) throw error;
  });
  return own.length;
}

function namespaces(): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** Whatever runs in a namespace of ours is ours. As `ip netns pids`, for all of them in one go. */
function processesIn(names: readonly string[]): number[] {
  const inodes = names.map((name) => statSync(join(directory, name), { throwIfNoEntry: false })?.ino);
  const links = new Set(inodes.map((inode) => `net:[${inode}]`));
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid) && links.has(namespaceOf(pid)))
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

function namespaceOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return "";
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
