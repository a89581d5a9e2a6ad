import {
  contains,
  decode,
  type Entry,
  listAll,
  type MovedRecord,
  movedSchema,
  type NodeResources,
  parseAddress,
  parseCidr,
  prefixes,
  type Store,
} from "@cocoon-net/core";

/** One `moved/{ip}`. */
export interface MovedAddress {
  readonly ip: string;
  readonly record: MovedRecord;
  readonly entry: Entry;
}

export async function listMoved(store: Store, signal: AbortSignal | undefined): Promise<MovedAddress[]> {
  const { entries } = await listAll(store, prefixes.moved, { signal });
  return entries.map((entry) => ({
    ip: entry.key.slice(prefixes.moved.length),
    record: decode(movedSchema, entry),
    entry,
  }));
}

/** Which addresses of a node's subnet other nodes may hold, and which of other subnets it may hold itself. */
export interface MovedOfNode {
  readonly away: readonly string[];
  readonly in: readonly string[];
  readonly records: readonly MovedAddress[];
}

/** A node by its name and its instance: another one of its name has nothing to do with what was moved to it (G12). */
export interface Instance {
  readonly node: string;
  readonly uid: string;
  readonly instanceID?: string | undefined;
}

/**
 * What a node's block and its interfaces have to do with moves. While a move runs either of its nodes may hold the
 * address at the cloud: it counts for both.
 */
export function movedOfNode(all: readonly MovedAddress[], instance: Instance, subnet: string): MovedOfNode {
  const { node, uid } = instance;
  const block = parseCidr(subnet);
  const isNode = (holder: Holder) => holder.node === node && (holder.uid === undefined || holder.uid === uid);
  const isHeld = (record: MovedRecord) => holders(record).some(isNode) || mayHaveStill(instance, record);
  const away = all.filter(
    ({ ip, record }) => isIn(block, ip) && holders(record).some((holder) => holder.node !== node),
  );
  const moved = all.filter(({ ip, record }) => !isIn(block, ip) && isHeld(record));
  const records = all.filter(({ ip, record }) => isIn(block, ip) || isHeld(record));
  return { away: away.map(({ ip }) => ip), in: moved.map(({ ip }) => ip), records };
}

/** Whether the node serves the address on record. */
export function serves({ node, uid }: Instance, record: MovedRecord): boolean {
  return record.node === node && record.uid === uid;
}

/** Whether a forced reclaim has left the address to the instance. */
export function mayHaveStill({ instanceID }: Instance, { unfenced }: MovedRecord): boolean {
  return unfenced !== undefined && unfenced === instanceID;
}

export function withMoved(resources: NodeResources, moved: Pick<MovedOfNode, "away" | "in">): NodeResources {
  return {
    ...resources,
    ...(moved.away.length > 0 ? { movedAway: moved.away } : {}),
    ...(moved.in.length > 0 ? { movedIn: moved.in } : {}),
  };
}

export function isInBlock(subnet: string, ip: string): boolean {
  return isIn(parseCidr(subnet), ip);
}

function isIn(block: ReturnType<typeof parseCidr>, ip: string): boolean {
  return contains(block, parseAddress(ip));
}

/** `uid` is undefined where it is not on record any more. */
interface Holder {
  readonly node: string;
  readonly uid: string | undefined;
}

function holders({ node, uid, move }: MovedRecord): Holder[] {
  if (!move) return [{ node, uid }];
  const from = { node: move.from, uid: move.from === node ? uid : undefined };
  return [from, { node: move.to, uid: move.toUID }].filter((holder) => holder.node !== "");
}
