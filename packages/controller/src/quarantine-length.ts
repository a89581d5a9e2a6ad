import type { NodeRecord } from "@cocoon-net/core";

/** Beyond the end of the last lease: guests and hosts do not count in step. */
const marginMs = 60_000;

/**
 * How long a block must rest that was taken from a node by force, without a fence (G6): until the last lease that the
 * node has published ends, and one whole lease time after it was last heard; it may have granted until then. Both times
 * of the record are the node's own, so that their difference is free of skew; `silentMs` is how long it has been silent
 * by one monotonic clock.
 */
export function forcedQuarantineMs(
  record: Pick<NodeRecord, "lastSeen" | "maxLeaseEnd"> | undefined,
  leaseMs: number,
  silentMs: number,
): number {
  const published = record?.maxLeaseEnd ? Date.parse(record.maxLeaseEnd) - Date.parse(record.lastSeen) : 0;
  return Math.max(published, leaseMs) - Math.min(silentMs, Math.max(published, leaseMs)) + marginMs;
}
