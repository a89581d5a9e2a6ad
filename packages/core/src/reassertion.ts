import { encodeFormerEpochs, requireHere } from "./cluster-place.ts";
import { ConflictError, FencedError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { type ClusterConfig, decode, encode, type NodeRecord, nodeSchema, slotSchema } from "./model.ts";
import { hasEnded, type NodeDescription, newNodeRecord } from "./node-record.ts";
import type { Look } from "./recovery.ts";
import { slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Revision, Store } from "./store.ts";

/** An ownership that a node has proved before, and that the store has no claim of. */
export interface FormerOwnership {
  readonly node: string;
  readonly uid: string;
  readonly subnet: string;
  readonly epoch: Revision;
  readonly config: ClusterConfig;
  readonly about: NodeDescription;
}

/**
 * Asserts an ownership again whose claim the store has lost. The caller has established that the store may have lost
 * writes since the node last proved it; without that a missing claim means that it has ended.
 *
 * Legal only where nothing on record speaks against it: the node's record does not name its epoch among those that
 * have ended, its name is nobody else's, and each of its slots is free. Whoever is on record keeps a slot: a claim that
 * survived the loss is older than those that did not, and one that was made after the window is in use already. While
 * the store recovers that is not decided yet, as a claim that was made just before the loss was noticed is undone.
 *
 * @returns the new epoch; undefined when something has changed meanwhile: look again.
 * @throws {FencedError} when the ownership has ended or gone to somebody else; {@link ConflictError} when that is not
 * decided yet, or when the cluster is not in use in this store.
 */
export async function reassert(
  store: Store,
  former: FormerOwnership,
  { config, incarnation, revision }: Look,
  now: Date,
  options?: CallOptions,
): Promise<Revision | undefined> {
  const { node, uid, subnet, epoch } = former;
  requireHere(config, store.label);
  const slots = slotsOf(parseCidr(subnet), former.config.nodePrefix).map((slot) =>
    keys.slot(formatCidr(slot)),
  );
  const names = [keys.node(node), ...slots];
  const { reads } = await store.txn({ then: names.map((name) => ({ get: name })) }, options);
  const [about, ...held] = reads;
  const record = about && decode(nodeSchema, about);
  if (record && hasEnded(record, epoch)) throw ended(former); // G3, G5
  const other = otherOwner(former, record, held);
  if (other !== undefined) {
    const message = `${subnet} of node ${node} (epoch ${epoch}) was lost from ${store.label}, and ${other}`;
    if (incarnation.recovering) {
      throw new ConflictError(`${message}; it is decided when the store has recovered`, {
        hint: "nothing new is granted until then",
      });
    }
    const event = { time: now.toISOString(), type: "ownership-conflict", node, subnet };
    await store.txn({ then: [eventOperation(revision, { ...event, message })] }, options);
    throw new FencedError(message, { hint: rejoin });
  }
  const time = now.toISOString();
  const described = newNodeRecord(former.about, { uid, lastSeen: time, subnet }, record);
  const mine = record?.uid === uid ? record : undefined;
  const { succeeded, revision: written } = await store.txn(
    {
      if: [
        { key: keys.subnet(node), exists: false },
        { key: config.key, modRevision: config.modRevision },
        incarnation.holds,
        // G1
        ...names.map((name, index) => unchanged(name, reads[index])),
      ],
      then: [
        { put: keys.subnet(node), value: encode(subnet) },
        // A node that ends before it has written its new epoch down is known by the old one.
        { put: keys.epochs(node), value: encodeFormerEpochs([epoch]) },
        { put: keys.node(node), value: encode({ ...mine, ...described, status: statusOf(mine) }) },
        ...slots.map((name) => ({ put: name, value: encode({ node, uid }) })),
        eventOperation(revision, {
          time,
          type: "node-reasserted",
          node,
          subnet,
          message: `${node} (${uid}) still owns ${subnet}, which the store had lost`,
        }),
      ],
    },
    options,
  );
  return succeeded ? written : undefined;
}

const rejoin =
  "its addresses are no longer its own; run `cocoon-net init` or `adopt` again to join with a new subnet";

/** Who stands in the way, as the end of a sentence. */
function otherOwner(
  { node, uid }: FormerOwnership,
  record: NodeRecord | undefined,
  held: readonly (Entry | undefined)[],
): string | undefined {
  const over = record?.status === "left" || record?.status === "quarantined";
  if (record && record.uid !== uid && !over) return `its name is registered by instance ${record.uid}`;
  for (const entry of held) {
    if (!entry) continue;
    const slot = decode(slotSchema, entry);
    if (slot.node === node && slot.uid === uid) continue;
    const where = entry.key.slice(prefixes.slots.length);
    return slot.node === "" ? `${where} is in quarantine` : `${where} belongs to node ${slot.node}`;
  }
  return undefined;
}

function statusOf(record: NodeRecord | undefined): NodeRecord["status"] {
  return record?.status === "draining" ? "draining" : "ready";
}

export function unchanged(key: string, entry: Entry | undefined): Compare {
  return entry ? { key, modRevision: entry.modRevision } : { key, exists: false };
}

function ended({ node, subnet, epoch }: FormerOwnership): FencedError {
  return new FencedError(`node ${node} no longer owns ${subnet} (epoch ${epoch}): its ownership has ended`, {
    hint: rejoin,
  });
}
