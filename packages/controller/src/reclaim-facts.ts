import {
  type Compare,
  ConflictError,
  decode,
  type Entry,
  formatCidr,
  keys,
  parseCidr,
  quarantineSchema,
  type Revision,
  type SlotRecord,
  type Store,
  slotSchema,
  slotsOf,
} from "@cocoon-net/core";
import { type ReclaimIntent, reclaimIntentSchema } from "./reclaim-intent.ts";

/** Everything a step of a reclaim decides upon, as of one revision. */
export interface Facts {
  readonly intent: ReclaimIntent;
  readonly revision: Revision;
  /** `subnets/{node}` */
  readonly owned: Entry | undefined;
  /** `epochs/{node}` */
  readonly mark: Entry | undefined;
  readonly node: Entry | undefined;
  readonly alive: Entry | undefined;
  /** The block's quarantine, when it is this intent's. */
  readonly quarantine: Entry | undefined;
}

/** Undefined when the intent is gone. */
export async function readFacts(
  store: Store,
  id: string,
  { node, subnet }: ReclaimIntent,
  signal: AbortSignal,
): Promise<Facts | undefined> {
  const names = [
    keys.intent(id),
    keys.subnet(node),
    keys.epochs(node),
    keys.node(node),
    keys.alive(node),
    keys.quarantine(subnet),
  ];
  const { reads } = await store.txn({ then: names.map((name) => ({ get: name })) }, { signal });
  const [intent, owned, mark, record, alive, quarantine] = reads;
  if (!intent) return undefined;
  return {
    intent: decode(reclaimIntentSchema, intent),
    revision: intent.modRevision,
    owned,
    mark,
    node: record,
    alive,
    quarantine: quarantine && decode(quarantineSchema, quarantine).intent === id ? quarantine : undefined,
  };
}

/** The slots of the block. @throws {ConflictError} when one is not held as it must be (G1). */
export async function readSlots(
  store: Store,
  { node, subnet }: ReclaimIntent,
  nodePrefix: number,
  expected: (record: SlotRecord) => boolean,
  signal: AbortSignal,
): Promise<Entry[]> {
  const names = slotsOf(parseCidr(subnet), nodePrefix).map((slot) => keys.slot(formatCidr(slot)));
  const { reads } = await store.txn({ then: names.map((name) => ({ get: name })) }, { signal });
  return names.map((name, index) => {
    const entry = reads[index];
    if (entry && expected(decode(slotSchema, entry))) return entry;
    throw new ConflictError(`${name} does not hold what the reclaim of ${node} expects`, {
      hint: "look at it with `cocoon-net cluster subnets`; nothing is freed until it fits",
    });
  });
}

export function unchanged(entries: readonly Entry[]): Compare[] {
  return entries.map(({ key, modRevision }) => ({ key, modRevision }));
}
