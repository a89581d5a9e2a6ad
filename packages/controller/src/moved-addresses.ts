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

/**
 * What a node's block and its interfaces have to do with moves. While a move runs either of its nodes may hold the
 * address at the cloud: it counts for both.
 */
export function movedOfNode(all: readonly MovedAddress[], node: string, subnet: string): MovedOfNode {
  const block = parseCidr(subnet);
  const records = all.filter(({ ip, record }) => isIn(block, ip) || holders(record).includes(node));
  const away = records.filter(
    ({ ip, record }) => isIn(block, ip) && holders(record).some((name) => name !== node),
  );
  const moved = records.filter(({ ip, record }) => !isIn(block, ip) && holders(record).includes(node));
  return { away: away.map(({ ip }) => ip), in: moved.map(({ ip }) => ip), records };
}

/** Those that the instance serves on record: another one of its name has nothing to do with them (G12). */
export function servedBy(
  { records }: MovedOfNode,
  { node, uid }: { readonly node: string; readonly uid: string },
): MovedAddress[] {
  return records.filter(({ record }) => record.node === node && record.uid === uid);
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

function holders({ node, move }: MovedRecord): string[] {
  return move ? [move.from, move.to].filter((name) => name !== "") : [node];
}
