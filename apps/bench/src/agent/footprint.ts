import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

export interface Footprint {
  /** Resident, and the part of it that no other process has. MB of 10^6 bytes. */
  readonly residentMB: number;
  readonly ownMB: number;
  /** Of all threads, per second. */
  readonly wakeUps: number;
  /** Percent of one processor. */
  readonly cpu: number;
}

/** Looks at a process for that long. */
export async function footprintOf(pid: number, seconds: number): Promise<Footprint> {
  const before = use(pid);
  const begun = performance.now();
  await pause(seconds * 1_000);
  const after = use(pid);
  const took = (performance.now() - begun) / 1_000;
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const sum = (pattern: RegExp): number =>
    [...rollup.matchAll(pattern)].reduce((total, [, kB]) => total + Number(kB) * 1_024, 0) / 1e6;
  return {
    residentMB: sum(/^Rss:\s+(\d+)/gm),
    ownMB: sum(/^Private_(?:Clean|Dirty):\s+(\d+)/gm),
    wakeUps: (after.switches - before.switches) / took,
    cpu: ((after.ticks - before.ticks) / ticksPerSecond / took) * 100,
  };
}

/** USER_HZ, the same on every Linux that Node runs on. */
const ticksPerSecond = 100;

function use(pid: number): { switches: number; ticks: number } {
  let switches = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    switches += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
  }
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return { switches, ticks: Number(fields[11]) + Number(fields[12]) };
}
