import type { LeaseRecord } from "@cocoon-net/core";
import { type EngineState, identityOf, type Lease } from "@cocoon-net/dhcp";

/**
 * The leases of `node` in the store that the local records know nothing of. All leases last equally long, so the
 * expiry tells which of two is the newer one; a lease that ended here left its expiry behind and does not come back.
 * Each gets a grant number above all that were ever seen (G4).
 */
export function unknownLeases(
  local: EngineState,
  stored: ReadonlyMap<string, LeaseRecord>,
  node: string,
  now: number,
): Lease[] {
  const byAddress = new Map(local.records.map((record) => [record.ip, record.expiry]));
  const byClient = new Map<string, number>();
  for (const record of local.records) {
    if (record.state === "leased") byClient.set(identityOf(record), record.expiry);
  }
  let seq = Math.max(local.seq, ...[...stored.values()].map((lease) => lease.seq));
  const candidates = [...stored]
    .map(([ip, lease]) => ({ ip, ...lease, expiry: Date.parse(lease.expiry) }))
    .filter((lease) => lease.node === node && lease.expiry > now)
    // The newest first, so that of two leases of one client the newer one is taken.
    .sort((one, other) => other.expiry - one.expiry);
  const unknown: Lease[] = [];
  for (const { ip, mac, expiry, hostname } of candidates) {
    const client = identityOf({ mac });
    if (expiry <= (byAddress.get(ip) ?? 0) || expiry <= (byClient.get(client) ?? 0)) continue;
    byClient.set(client, expiry);
    unknown.push({ mac, ip, expiry, seq: ++seq, ...(hostname === undefined ? {} : { hostname }) });
  }
  return unknown;
}
