import type { Claim, SlotsSeen } from "./claim.ts";
import type { ClusterView } from "./cluster-config.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { decode, quarantineSchema, slotSchema } from "./model.ts";
import { slotsOf } from "./slots.ts";
import type { CallOptions, Entry, Store } from "./store.ts";

/**
 * The former block of this instance, when it is still in quarantine: nobody else has used it, so it may return.
 * `subnet`: only if it is that one.
 */
export async function quarantinedBlock(
  store: Store,
  uid: string,
  subnet: Cidr | undefined,
  cluster: ClusterView,
  options: CallOptions,
): Promise<Claim | undefined> {
  for (const entry of (await listAll(store, prefixes.quarantine, options)).entries) {
    if (decode(quarantineSchema, entry).uid !== uid) continue;
    const block = parseCidr(entry.key.slice(prefixes.quarantine.length));
    if (subnet && formatCidr(subnet) !== formatCidr(block)) continue;
    const slots = slotsOf(block, cluster.config.nodePrefix);
    const { reads } = await store.txn(
      { then: slots.map((slot) => ({ get: keys.slot(formatCidr(slot)) })) },
      options,
    );
    const held = reads.filter((slot) => slot !== undefined).filter((slot) => isHeldFor(uid, slot));
    if (held.length < slots.length) continue;
    return {
      subnet: block,
      slots,
      conditions: [entry, ...held].map(({ key, modRevision }) => ({ key, modRevision })),
      extra: [{ delete: entry.key }],
    };
  }
  return undefined;
}

/** Whether one of the slots is in quarantine for this instance. */
export function seesOwnQuarantine(uid: string, seen: SlotsSeen): boolean {
  // Few slots name the instance: the others are not worth decoding.
  return [...seen.values()].some((slot) => slot?.value.includes(uid) && isHeldFor(uid, slot));
}

function isHeldFor(uid: string, slot: Entry): boolean {
  const record = decode(slotSchema, slot);
  return record.node === "" && record.uid === uid;
}
