import { type SlotsSeen, slotsSeen, type Wanted } from "./claim.ts";
import type { ClusterView } from "./cluster-config.ts";
import { ExhaustedError } from "./errors.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { candidateSlots, type SlotLayout, SlotTable } from "./slots.ts";
import type { CallOptions, Entry, Store } from "./store.ts";

/** Slots by the hash of the node's name, of which one look, or one lost claim, tells. */
const candidatesPerLook = 12;
/** How many of them tell a node that joins alone how large the cluster is. */
const candidatesAlone = 4;
const looks = 20;
/**
 * With about as many slots in use, judging by them, all are read, and a node that joins alone gets the lowest that is
 * free. A larger cluster is only looked at here and there: a thousand nodes must not read all of it a thousand times.
 */
const smallCluster = 256;
/** Claims on one reading of all slots: what the others take meanwhile is learned by losing to them. */
const claimsPerReading = 8;
const readings = 64;

/** Slots to claim. */
export interface SlotTry extends Omit<Wanted, "claims"> {
  readonly slots: readonly Cidr[];
}

/** What a node has learned by losing them. */
export interface SlotLoss {
  readonly seen: SlotsSeen;
  readonly alone: boolean;
}

/**
 * Slots for a node to claim, until it has got one; each try is answered with what `ask` was like when it was lost, so
 * that a lost claim is also the look for the next. The lowest comes first, because people like to see .0, .1, .2. Nodes
 * that lose that race, or join a large cluster, spread out by the hash of their names, or a thousand of them would
 * collide a thousand times. @throws {ExhaustedError} when nothing is free.
 */
export async function* slotsToTry(
  store: Store,
  cluster: ClusterView,
  node: string,
  options: CallOptions,
): AsyncGenerator<SlotTry, void, SlotLoss> {
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
  // More than one hashed slot behind the lowest would make each request longer, and few shorter.
  const behind = (slot: Cidr) => [slot, ...hashed.slice(0, 1)];
  const ask = [first, ...hashed];
  const { seen, alone } = yield { slots: behind(first), ask, askAlone: 1 + candidatesAlone };
  const looked = hashed.filter((slot) => seen.has(slot)).length;
  hashed = freeOf(hashed, seen);
  if (alone && open.total * (1 - hashed.length / looked) <= smallCluster) {
    const lost = yield { slots: behind(await lowestFreeSlot(store, cluster, options)), ask: hashed };
    hashed = freeOf(hashed, lost.seen);
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
): AsyncGenerator<SlotTry, void, SlotLoss> {
  let [slot, ...others] = free;
  while (slot) {
    const ask: readonly Cidr[] = others.length > 0 ? others : more();
    const { seen } = yield { slots: [slot], ask };
    [slot, ...others] = freeOf(ask, seen);
  }
}

function freeOf(slots: readonly Cidr[], seen: SlotsSeen): Cidr[] {
  return slots.filter((slot) => seen.has(slot) && seen.get(slot) === undefined);
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
  const { reads } = await store.txn({ then: gets }, options);
  return slotsSeen(slots, reads);
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
