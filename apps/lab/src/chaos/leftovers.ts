import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { removeNamespaces } from "../namespaces/namespaces.ts";

const stem = "chaos";
const netns = "/run/netns";

/** Of the names of a run's namespaces; it holds the pid, so that what a killed run left can be told. */
export function runPrefix(pid: number): string {
  return `${stem}${pid}`;
}

/** A new directory for a run's logs and state. */
export async function makeRunDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), `cocoon-${stem}-${process.pid}-`));
}

/** Removes the namespaces of runs that are gone. Their directories were kept to be looked at. */
export async function removeLeftovers(): Promise<void> {
  const names = existsSync(netns) ? readdirSync(netns) : [];
  const owners = new Set(names.map((name) => new RegExp(`^${stem}(\\d+)-`).exec(name)?.[1]));
  for (const owner of owners) {
    if (owner !== undefined && !runs(owner)) await removeNamespaces(runPrefix(Number(owner)));
  }
}

function runs(pid: string): boolean {
  if (Number(pid) === process.pid) return false;
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return argv.some((word) => basename(word) === "chaos.js");
  } catch {
    return false;
  }
}
