import { LeaseTable, prefixes, readInto } from "@cocoon-net/core";
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

/** A busy machine may need longer for thousands of entries than a call has as a rule; the raw client has as much. */
const pageTimeoutMs = 10_000;

/** Reads all leases and keeps them: decoded, checked and packed by us, as text by the raw client. */
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
  const { into: leases } = await readInto(
    store,
    prefixes.pool,
    () => new LeaseTable(),
    (table, entry) => table.addEntry(entry),
    { timeoutMs: pageTimeoutMs },
  );
  return { leases: leases.size, residentBytes: peakBytes() };
};

function addressIn(key: string): string {
  return key.slice(prefixes.pool.length);
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1_024;
}
