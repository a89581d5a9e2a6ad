import { type SlotsSeen, slotsSeen } from "./claim.ts";
import type { ClusterView } from "./cluster-config.ts";
import { ExhaustedError } from "./errors.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { candidateSlots, type SlotLayout, SlotTable } from "./slots.ts";
import type { CallOptions, Entry, Revision, Store } from "./store.ts";

/** Slots by the hash of the node's name, of which one look, or one lost claim, tells. */
const candidatesPerLook = 12;
const looks = 20;
/**
 * With about as many slots in use, judging by the candidates, all are read, and a node that joins alone gets the lowest
 * that is free. A larger cluster is only looked at here and there: a thousand nodes must not read all of it a thousand
 * times.
 */
const smallCluster = 256;
/** With more written between the look and the first claim, others are believed to join at the same time. */
const calmRevisions = 8;
/** Claims on one reading of all slots: what the others take meanwhile is learned by losing to them. */
const claimsPerReading = 8;
const readings = 64;

/** One slot to claim, and which slots to ask about if it is taken. */
export interface SlotTry {
  readonly slot: Cidr;
  readonly ask: readonly Cidr[];
}

export interface Seeker {
  readonly node: string;
  /** When the node looked: what is written after that, somebody writes who may join at the same time. */
  readonly since: Revision;
}

/**
 * Slots for a node to claim, until it has got one; each is answered with what `ask` was like when it was taken, so that
 * a lost claim is also the look for the next. The lowest comes first, because people like to see .0, .1, .2. Nodes that
 * lose that race, or join a large cluster, spread out by the hash of their names, or a thousand of them would collide a
 * thousand times. @throws {ExhaustedError} when nothing is free.
 */
export async function* slotsToTry(
  store: Store,
  cluster: ClusterView,
  { node, since }: Seeker,
  options: CallOptions,
): AsyncGenerator<SlotTry, void, SlotsSeen> {
  const open = tableOf(cluster, []);
  const first = open.lowestFree();
  if (!first) throw exhausted(cluster, open);
  const candidates = candidateSlots(layoutOf(cluster), node);
  let looksLeft = looks;
  const nextCandidates = () => {
    looksLeft -= 1;
    return looksLeft < 0 ? [] : freeAmong(open, candidates, candidatesPerLook);
  };
  let hashed = nextCandidates();
  let seen = yield { slot: first, ask: [first, ...hashed] };
  const inUse = open.total * (1 - freeOf(hashed, seen).length / hashed.length);
  hashed = freeOf(hashed, seen);
  const alone =
    seen.revision - since <= calmRevisions && (seen.slots.get(first)?.createRevision ?? 0) <= since;
  if (alone && inUse <= smallCluster) {
    seen = yield { slot: await lowestFreeSlot(store, cluster, options), ask: hashed };
    hashed = freeOf(hashed, seen);
  }
  while (hashed.length > 0 || looksLeft > 0) {
    yield* inTurn(hashed, nextCandidates);
    const next = nextCandidates();
    if (next.length === 0) break;
    hashed = freeOf(next, await lookAt(store, next, options));
  }
  // So little is free that it takes all to find it.
  for (let reading = 0; reading < readings; reading++) {
    const table = tableOf(cluster, (await listAll(store, prefixes.slots, options)).entries);
    if (table.free === 0) throw exhausted(cluster, table);
    const order = candidateSlots(layoutOf(cluster), node);
    yield* inTurn(freeAmong(table, order, claimsPerReading), () => []);
  }
}

/** @throws {ExhaustedError} when nothing is free. */
export async function lowestFreeSlot(
  store: Store,
  cluster: ClusterView,
  options: CallOptions,
): Promise<Cidr> {
  const table = tableOf(cluster, (await listAll(store, prefixes.slots, options)).entries);
  const slot = table.lowestFree();
  if (!slot) throw exhausted(cluster, table);
  return slot;
}

/** One after the other of what is known to be free; with the last, `more` is asked about. */
async function* inTurn(
  free: readonly Cidr[],
  more: () => readonly Cidr[],
): AsyncGenerator<SlotTry, void, SlotsSeen> {
  let [slot, ...others] = free;
  while (slot) {
    const ask: readonly Cidr[] = others.length > 0 ? others : more();
    [slot, ...others] = freeOf(ask, yield { slot, ask });
  }
}

function freeOf(slots: readonly Cidr[], seen: SlotsSeen): Cidr[] {
  return slots.filter((slot) => seen.slots.has(slot) && seen.slots.get(slot) === undefined);
}

/** The next `count` of the slots in `order` that are free in the table; fewer at the end. */
function freeAmong(table: SlotTable, order: Iterator<Cidr>, count: number): Cidr[] {
  const found: Cidr[] = [];
  while (found.length < count) {
    const next = order.next();
    if (next.done) break;
    if (table.isFree(next.value)) found.push(next.value);
  }
  return found;
}

async function lookAt(store: Store, slots: readonly Cidr[], options: CallOptions): Promise<SlotsSeen> {
  const gets = slots.map((slot) => ({ get: keys.slot(formatCidr(slot)) }));
  const { reads, revision } = await store.txn({ then: gets }, options);
  return slotsSeen(slots, reads, revision);
}

function layoutOf({ parent, config }: ClusterView): Pick<SlotLayout, "parent" | "nodePrefix"> {
  return { parent, nodePrefix: config.nodePrefix };
}

function tableOf(cluster: ClusterView, entries: readonly Entry[]): SlotTable {
  const table = new SlotTable(cluster.parent, cluster.config.nodePrefix, cluster.reserved);
  for (const { key } of entries) table.take(parseCidr(key.slice(prefixes.slots.length)));
  return table;
}

function exhausted({ config }: ClusterView, { total }: SlotTable): ExhaustedError {
  return new ExhaustedError(
    `no free /${config.nodePrefix} is left in ${config.parentCIDR} (${total} slots)`,
    { hint: "reclaim nodes that are gone, or wait for a quarantine to end (`cocoon-net cluster subnets`)" },
  );
}
