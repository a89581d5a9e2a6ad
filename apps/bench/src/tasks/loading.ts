import { decode, leaseSchema, prefixes, readAll } from "@cocoon-net/core";
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
    const leases: { readonly address: string; readonly value: string }[] = [];
    await client.readAll(prefixes.pool, (key, value) => leases.push({ address: addressIn(key), value }));
    return { leases: leases.length, residentBytes: peakBytes() };
  }
  const store = context.stack.use(await openStore(target));
  await context.start();
  const leases = await readAll(store, prefixes.pool, (entry) => ({
    address: addressIn(entry.key),
    ...decode(leaseSchema, entry),
  }));
  return { leases: leases.items.length, residentBytes: peakBytes() };
};

function addressIn(key: string): string {
  return key.slice(prefixes.pool.length);
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1_024;
}
