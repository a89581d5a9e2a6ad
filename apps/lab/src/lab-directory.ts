import { readFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const stem = "cocoon-lab";

/** A new directory for this lab's logs and state; its name holds the pid, so that leftovers can be told. */
export async function makeLabDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), `${stem}-${process.pid}-`));
}

/** Removes the directories of labs that are gone. Others' directories stay. @returns how many it removed */
export async function removeLeftoverDirectories(): Promise<number> {
  let removed = 0;
  for (const name of await readdir(tmpdir())) {
    const owner = new RegExp(`^${stem}-(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || isRunningLab(Number(owner))) continue;
    await rm(join(tmpdir(), name), { recursive: true, force: true }).then(
      () => removed++,
      () => undefined,
    );
  }
  return removed;
}

/**
 * Whether that process is a lab other than this one. What bears this process's own number was left by an earlier
 * one, as long as this one has made nothing yet.
 */
export function isRunningLab(pid: number): boolean {
  if (pid === process.pid) return false;
  if (process.platform !== "linux") return isRunning(pid);
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return argv.some((word) => basename(word) === "lab.js");
  } catch {
    return isRunning(pid);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
