import type { ClusterView } from "./cluster-config.ts";
import { eventOperation } from "./events.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys } from "./keys.ts";
import { decode, encode, nodeSchema, type SlotRecord } from "./model.ts";
import { type NodeDescription, newNodeRecord, withEnded } from "./node-record.ts";
import { unchanged } from "./reassertion.ts";
import type { Look } from "./recovery.ts";
import type { Registration } from "./registration.ts";
import { slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Store, TxnStep } from "./store.ts";

/** Who claims. */
export interface Claimant extends NodeDescription {
  readonly node: string;
  /** Instance id, or a random UUID that the node keeps (G12). */
  readonly uid: string;
}

/** What a registration is made from, as of one revision. */
export interface Situation {
  readonly cluster: ClusterView;
  readonly look: Look;
  /** `subnets/{node}` and `nodes/{node}`. */
  readonly owned: Entry | undefined;
  readonly about: Entry | undefined;
  /** `joining` */
  readonly joining: Entry | undefined;
}

/** One block that a registration tries to take, with what must still hold for it to be free. */
export interface Claim {
  readonly subnet: Cidr;
  readonly slots: readonly Cidr[];
  readonly conditions: readonly Compare[];
  readonly extra: readonly Operation[];
}

/** What one transaction tries to take. */
export interface Wanted {
  /** One after the other. */
  readonly claims: readonly Claim[];
  /** Slots to tell about when none of them is taken: as many as one transaction takes. */
  readonly ask: readonly Cidr[];
  /**
   * The claims after the first are only for a node that is in others' way. If nobody else has come this far since it
   * looked, it takes none of them, and is told about so many of the slots.
   */
  readonly askAlone?: number;
}

/** Slots as they were at one moment; undefined where one is free. */
export type SlotsSeen = ReadonlyMap<Cidr, Entry | undefined>;

export type ClaimResult =
  | { readonly type: "owned"; readonly subnet: string; readonly epoch: Revision }
  /** Others have them, or it need not give way (`alone`); and the slots that were asked about, as they are now. */
  | { readonly type: "taken"; readonly seen: SlotsSeen; readonly alone: boolean }
  /** What the claim was made from has changed (the config, or this very node was registered meanwhile). */
  | { readonly type: "outdated" };

/** What a transaction about a subnet needs beside one operation for each slot, the controller's included. */
const otherOperations = 8;

/** How many slots one transaction can be about: not more than in the other stores, which the cluster may move to. */
export function mostSlots({ capabilities }: Store): number {
  return Math.min(capabilities.maxOperations, 128) - otherOperations;
}

/** A block that is free if its slots are. */
export function claimOf(subnet: Cidr, cluster: ClusterView): Claim {
  const slots = slotsOf(subnet, cluster.config.nodePrefix);
  const conditions = slots.map((slot) => ({ key: keys.slot(formatCidr(slot)), exists: false }));
  return { subnet, slots, conditions, extra: [] };
}

/**
 * Takes a block, in one transaction, or tells what the slots in `ask` are like, from the same one. Ownership is two
 * keys: `subnets/{node}`, whose revision is the node's epoch, and `slots/{cidr}` for every slot the subnet covers,
 * created only if absent (G1).
 */
export async function tryClaim(
  store: Store,
  claimant: Claimant,
  { claims, ask, askAlone = 0 }: Wanted,
  { cluster, look, about, joining }: Situation,
  now: Date,
  options: CallOptions,
): Promise<ClaimResult> {
  const { node, uid } = claimant;
  const { holds } = look.incarnation;
  const asked = ask.slice(0, mostSlots(store));
  const lastSeen = now.toISOString();
  const before = about && decode(nodeSchema, about);
  const slot = encode({ node, uid } satisfies SlotRecord);
  const same: readonly Compare[] = [
    { key: keys.subnet(node), exists: false },
    { key: keys.config, modRevision: cluster.revision },
    // G1
    holds,
  ];
  const takes = (claim: Claim): TxnStep => {
    const subnet = formatCidr(claim.subnet);
    const record = newNodeRecord(claimant, { uid, lastSeen, subnet }, before);
    const message = `${node} (${uid}) owns ${subnet}`;
    return {
      if: [...same, ...claim.conditions],
      then: [
        { put: keys.subnet(node), value: encode(subnet) },
        { put: keys.node(node), value: encode(record) },
        ...claim.slots.map((cidr) => ({ put: keys.slot(formatCidr(cidr)), value: slot })),
        ...claim.extra,
        eventOperation(cluster.readAt, { time: lastSeen, type: "node-registered", node, subnet, message }),
      ],
    };
  };
  const asks = asked.map((cidr) => ({ get: keys.slot(formatCidr(cidr)) }));
  const alone: TxnStep = {
    if: [...same, unchanged(keys.joining, joining)],
    then: [{ put: keys.joining, value: encode({ node }) }, ...asks.slice(0, askAlone)],
  };
  const order = askAlone > 0 ? [...claims.slice(0, 1), undefined, ...claims.slice(1)] : claims;
  const [first, ...or] = order.map((claim) => (claim ? takes(claim) : alone));
  const { step, reads, succeeded, revision } = await store.txn(
    {
      ...{ ...first, or },
      else: [{ get: keys.subnet(node) }, { get: keys.config }, { get: keys.incarnation }, ...asks],
    },
    options,
  );
  const taken = order[step];
  if (taken) return { type: "owned", subnet: formatCidr(taken.subnet), epoch: revision };
  if (succeeded) return { type: "taken", seen: slotsSeen(asked.slice(0, askAlone), reads), alone: true };
  const [registered, config, incarnation, ...slots] = reads;
  const unmoved =
    config?.modRevision === cluster.revision && "value" in holds && incarnation?.value === holds.value;
  if (registered || !unmoved) return { type: "outdated" };
  return { type: "taken", seen: slotsSeen(asked, slots), alone: false };
}

export function slotsSeen(slots: readonly Cidr[], reads: readonly (Entry | undefined)[]): SlotsSeen {
  return new Map(slots.map((slot, index) => [slot, reads[index]]));
}

/** Undoes a claim that was made just before the store lost writes, if it stands. */
export async function withdrawClaim(
  store: Store,
  { node, subnet, fence, config }: Registration,
  now: Date,
  options: CallOptions,
): Promise<void> {
  const { reads, revision } = await store.txn(
    { then: [{ get: keys.subnet(node) }, { get: keys.node(node) }] },
    options,
  );
  const [owned, about] = reads;
  if (!owned || !about) return;
  const message = `${node} waits for another subnet: it was given ${subnet} just before the store lost writes`;
  const event = { time: now.toISOString(), type: "registration-undone", node, subnet, message };
  const record = { ...withEnded(decode(nodeSchema, about), owned, undefined), status: "left" };
  await store.txn(
    {
      if: [fence, { key: about.key, modRevision: about.modRevision }],
      then: [
        { delete: owned.key },
        { put: about.key, value: encode(record) },
        eventOperation(revision, event),
        ...slotsOf(parseCidr(subnet), config.nodePrefix).map(
          (slot): Operation => ({ delete: keys.slot(formatCidr(slot)) }),
        ),
      ],
    },
    options,
  );
}
