import {
  type Compare,
  contains,
  decode,
  type Entry,
  leaseSchema,
  listAll,
  parseAddress,
  parseCidr,
  prefixes,
  type Store,
  textPrefixes,
} from "@cocoon-net/core";
import type { IntentLog } from "./intent-log.ts";
import type { ReclaimIntent } from "./reclaim-intent.ts";

/**
 * Deletes the leases that the node of the intent has in its block, each as it was read (G4); another node's, such as an
 * address that has moved, stay. False when something changed meanwhile: look again.
 */
export async function deleteLeases(
  { store, signal }: { readonly store: Store; readonly signal: AbortSignal },
  log: IntentLog<ReclaimIntent>,
  held: readonly Compare[],
): Promise<boolean> {
  // One for the leadership, one for the intent.
  const size = store.capabilities.maxOperations - 2 - held.length;
  const { subnet, node } = log.intent;
  const leases = await leasesIn(store, subnet, node, signal);
  for (let start = 0; start < leases.length; start += size) {
    const batch = leases.slice(start, start + size);
    const done = await log.save((intent) => intent, {
      if: [...held, ...batch.map(({ key, modRevision }) => ({ key, modRevision }))],
      then: batch.map(({ key }) => ({ delete: key })),
    });
    if (!done) return false;
  }
  return true;
}

/** The leases that the node has in the block. */
export async function leasesIn(
  store: Store,
  subnet: string,
  node: string,
  signal: AbortSignal,
): Promise<Entry[]> {
  const block = parseCidr(subnet);
  const leases: Entry[] = [];
  for (const prefix of textPrefixes(block)) {
    for (const entry of (await listAll(store, prefixes.pool + prefix, { signal })).entries) {
      const inside = contains(block, {
        base: parseAddress(entry.key.slice(prefixes.pool.length)),
        prefix: 32,
      });
      if (inside && decode(leaseSchema, entry).node === node) leases.push(entry);
    }
  }
  return leases;
}
