import { decode, type LeaseRecord, leaseSchema, listAll, prefixes } from "@cocoon-net/core";
import { openRawClient } from "../raw/client.ts";
import { openStore, type Side, type Target } from "../target.ts";
import type { Task } from "../task.ts";

export interface LoadingParams {
  readonly target: Target;
  readonly side: Side;
}

export interface LoadingResult {
  readonly leases: number;
  /** The most that the process has held resident, in bytes. */
  readonly residentBytes: number;
}

/** Reads all leases and keeps them: decoded and checked by us, as text by the raw client. */
export const loadLeases: Task<LoadingParams, LoadingResult> = async ({ target, side }, context) => {
  if (side === "raw") {
    const client = context.stack.use(await openRawClient(target));
    await context.start();
    const leases = new Map<string, string>();
    await client.readAll(prefixes.pool, (key, value) => leases.set(key.slice(prefixes.pool.length), value));
    return { leases: leases.size, residentBytes: peakBytes() };
  }
  const store = context.stack.use(await openStore(target));
  await context.start();
  const leases = new Map<string, LeaseRecord>();
  for (const entry of (await listAll(store, prefixes.pool)).entries) {
    leases.set(entry.key.slice(prefixes.pool.length), decode(leaseSchema, entry));
  }
  return { leases: leases.size, residentBytes: peakBytes() };
};

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1_024;
}
