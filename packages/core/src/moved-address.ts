import { ConflictError } from "./errors.ts";
import { keys, prefixes } from "./keys.ts";
import { decode, encode, type LeaseRecord, leaseSchema } from "./model.ts";
import * as z from "./record-schema.ts";
import type { Registration } from "./registration.ts";
import type { CallOptions, Compare, Entry, Operation, Store } from "./store.ts";

/**
 * `moved/{ip}`: an address that is served outside its home subnet, or is on the way. As long as it exists the owner of
 * the subnet that the address lies in grants it to nobody, unless it is `node` itself, and then only to `mac`.
 */
export interface MovedRecord {
  /** The node whose subnet the address lay in when it was moved first. */
  readonly home: string;
  /** That subnet. It is not freed before the address has come back. */
  readonly subnet: string;
  /** The node that serves the address. Its writes about it compare this record. */
  readonly node: string;
  /** Empty once that node was reclaimed: the same instance, joined anew, does not serve the address. */
  readonly uid: string;
  /** The instance that may have the address at the cloud still: its reclaim was forced, and no fence was verified. */
  readonly unfenced?: string;
  readonly mac: string;
  readonly vmID?: string;
  /** Counts the changes of `node` (G4). */
  readonly seq: number;
  /** MACs of the NICs by which the cloud may deliver it to `node`, where they are not those that the node had before. */
  readonly nicMACs?: readonly string[];
  /** The move that is under way. */
  readonly move?: AddressMove;
}

/** `node` is `from` until the owner is swapped, and `to` after it. */
export interface AddressMove {
  readonly intent: string;
  readonly from: string;
  readonly to: string;
  readonly toUID: string;
  /** The nodes that have said that they act by the record as it is now; empty again after the swap. */
  readonly ready: readonly string[];
}

export const movedSchema: z.RecordSchema<MovedRecord> = z.looseObject({
  home: z.string(),
  subnet: z.string(),
  node: z.string(),
  uid: z.string(),
  unfenced: z.exactOptional(z.string()),
  mac: z.string(),
  vmID: z.exactOptional(z.string()),
  seq: z.int().nonnegative(),
  nicMACs: z.exactOptional(z.array(z.string())),
  move: z.exactOptional(
    z.looseObject({
      intent: z.string(),
      from: z.string(),
      to: z.string(),
      toUID: z.string(),
      ready: z.array(z.string()),
    }),
  ),
});

/** Who a node is when it writes about an address, and what proves that it owns its subnet. */
export type MovePart = Pick<Registration, "node" | "uid" | "fence">;

/** Who acts by a move is also told so itself: its mirrors from before that must not land any more. */
export type ActingPart = MovePart & Pick<Registration, "hasActed">;

/**
 * Says for a node that it acts by the record, which is the `moved/{ip}` that it has read. Before the swap that means,
 * for both nodes: nothing is written about the address any more but by {@link writeMovedLease}; and for the target: it
 * could serve it. After the swap, for the target: it serves the lease in `pool/{ip}` and its route is in. Mirrors that
 * were sent before do not land any more ({@link MirrorFence}).
 * False when something has changed: read it again.
 */
export async function acknowledgeMove(
  store: Store,
  part: ActingPart,
  entry: Entry,
  options?: CallOptions,
): Promise<boolean> {
  const { node, fence } = part;
  const moved = decode(movedSchema, entry);
  if (!moved.move || moved.move.ready.includes(node)) return true;
  const { intent, ready } = moved.move;
  const value = encode({ ...moved, move: { ...moved.move, ready: [...ready, node] } });
  const { succeeded } = await store.txn(
    {
      if: [fence, unchanged(entry)],
      then: [
        { put: entry.key, value },
        { put: keys.acted(node), value: encode(intent) },
      ],
    },
    options,
  );
  if (succeeded) part.hasActed(intent);
  return succeeded;
}

/**
 * Writes, or with `undefined` ends, the lease of a moved address for the node that serves it (G3, G4). False when
 * something has changed: read `moved/{ip}` again. @throws {ConflictError} for a node that does not serve the address
 */
export async function writeMovedLease(
  store: Store,
  { node, uid, fence }: MovePart,
  entry: Entry,
  lease: LeaseRecord | undefined,
  options?: CallOptions,
): Promise<boolean> {
  const address = entry.key.slice(prefixes.moved.length);
  const serving = decode(movedSchema, entry);
  // G12
  if (serving.node !== node || serving.uid !== uid) {
    const server = serving.uid === "" ? "nobody" : `node ${serving.node} (${serving.uid})`;
    throw new ConflictError(`${address} is served by ${server}, not by ${node} (${uid})`, {
      hint: "drop the lease",
    });
  }
  const write: Operation = lease
    ? { put: keys.pool(address), value: encode({ ...lease, node }) }
    : { delete: keys.pool(address) };
  const { succeeded } = await store.txn({ if: [fence, unchanged(entry)], then: [write] }, options);
  return succeeded;
}

/**
 * Says again that a node serves a moved address, where a store that may have lost writes has lost that. Nothing is
 * written where the address is on record as moved, or has another node's lease: whoever is on record keeps it.
 * @returns whether the record is now, or was already, this node's
 */
export async function reassertMoved(
  store: Store,
  { node, uid, fence }: MovePart,
  address: string,
  known: MovedRecord,
  lease: LeaseRecord,
  options?: CallOptions,
): Promise<boolean> {
  const [moved, pool] = [keys.moved(address), keys.pool(address)];
  const { move: _, ...settled } = known;
  for (let round = 0; round < 8; round++) {
    const { reads } = await store.txn({ then: [{ get: moved }, { get: pool }] }, options);
    const [record, other] = reads;
    if (record) {
      const server = decode(movedSchema, record);
      return server.node === node && server.uid === uid;
    }
    // G2
    if (other && decode(leaseSchema, other).node !== node) return false;
    const { succeeded } = await store.txn(
      {
        if: [fence, { key: moved, exists: false }, other ? unchanged(other) : { key: pool, exists: false }],
        then: [
          { put: moved, value: encode(settled) },
          { put: pool, value: encode({ ...lease, node }) },
        ],
      },
      options,
    );
    if (succeeded) return true;
  }
  return false;
}

function unchanged({ key, modRevision }: Entry): Compare {
  return { key, modRevision };
}
