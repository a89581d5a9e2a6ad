import type { ClusterView } from "./cluster-config.ts";
import { ExhaustedError } from "./errors.ts";
import { type Cidr, formatCidr, parseCidr, sizeOf } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { candidateSlot, SlotTable } from "./slots.ts";
import type { CallOptions, Entry, Store } from "./store.ts";

/**
 * A cluster with no more slots in use than this is read whole, and its lowest free slot is exact. A larger one is only
 * looked at here and there: a thousand nodes that join it at once must not read all of it a thousand times.
 */
const smallCluster = 64;
/** Slots of one look. */
const slotsPerLook = 32;
const hashedLooks = 8;
/** Claims on one look, or one reading: what the others take meanwhile is learned by losing to them. */
const claimsPerLook = 3;
const claimsPerReading = 8;
const readings = 64;

/**
 * Free slots for a node to try, until it has got one. The lowest comes first, because people like to see .0, .1, .2
 * (in a large cluster a low one). Nodes that lose that race spread out by the hash of their names over what else is
 * free, or a thousand of them would collide a thousand times. @throws {ExhaustedError} when nothing is free.
 */
export async function* freeSlots(
  store: Store,
  cluster: ClusterView,
  node: string,
  options: CallOptions,
): AsyncGenerator<Cidr, void, void> {
  const layout = { parent: cluster.parent, nodePrefix: cluster.config.nodePrefix };
  let attempt = 0;
  const page = await store.list(prefixes.slots, { ...options, limit: smallCluster });
  if (page.next !== undefined) {
    const reserved = tableOf(cluster, []);
    const look = (slots: readonly Cidr[]) => lookAt(store, reserved, slots, options);
    const nextCandidates = () =>
      Array.from({ length: slotsPerLook }, () => candidateSlot(layout, node, attempt++));
    let candidates = nextCandidates();
    let { low, free } = await searchLow(layout, look, candidates);
    if (low) yield low;
    for (let more = hashedLooks; ; more--) {
      yield* candidates.filter((slot) => free.has(slot)).slice(0, claimsPerLook);
      if (more === 0) break;
      candidates = nextCandidates();
      free = await look(candidates);
    }
  }
  for (let reading = 0; reading < readings; reading++) {
    const known = reading === 0 && page.next === undefined;
    const table = known ? tableOf(cluster, page.entries) : await readSlots(store, cluster, options);
    if (table.free === 0) throw exhausted(cluster, table);
    for (let claim = 0; claim < claimsPerReading; claim++) {
      let slot = table.lowestFree();
      if (!slot) break;
      if (reading + claim > 0) {
        do slot = candidateSlot(layout, node, attempt++);
        while (!table.isFree(slot));
      }
      yield slot;
      table.take(slot);
    }
  }
}

/** @throws {ExhaustedError} when nothing is free. */
export async function lowestFreeSlot(
  store: Store,
  cluster: ClusterView,
  options: CallOptions,
): Promise<Cidr> {
  const table = await readSlots(store, cluster, options);
  const slot = table.lowestFree();
  if (!slot) throw exhausted(cluster, table);
  return slot;
}

interface Layout {
  readonly parent: Cidr;
  readonly nodePrefix: number;
}

/** Answers which of the slots are neither reserved nor taken. */
type Look = (slots: readonly Cidr[]) => Promise<ReadonlySet<Cidr>>;

/**
 * Searches a free slot that is the lowest where slots were taken in their order, by looks at slots spread evenly over
 * what is left to search; there is none when the first look finds none. That look takes in `others` too, and `free` is
 * its answer.
 */
async function searchLow(
  { parent, nodePrefix }: Layout,
  look: Look,
  others: readonly Cidr[],
): Promise<{ readonly low: Cidr | undefined; readonly free: ReadonlySet<Cidr> }> {
  const slotAt = (number: number): Cidr => ({
    base: parent.base + number * sizeOf(nodePrefix),
    prefix: nodePrefix,
  });
  let [from, to] = [0, 2 ** (nodePrefix - parent.prefix)];
  let low: Cidr | undefined;
  let free: ReadonlySet<Cidr> | undefined;
  for (;;) {
    const step = Math.ceil((to - from) / slotsPerLook);
    const samples = Array.from({ length: Math.ceil((to - from) / step) }, (_, n) => slotAt(from + n * step));
    const seen = await look(free ? samples : [...samples, ...others]);
    free ??= seen;
    const first = samples.findIndex((slot) => seen.has(slot));
    low = samples[first] ?? low;
    // The sample before the first free one is taken, so that a lower one can only be between the two.
    if (first >= 0) to = from + first * step;
    from = Math.max(from, to - step + 1);
    if (!low || step === 1 || from >= to) return { low, free };
  }
}

async function lookAt(
  store: Store,
  reserved: SlotTable,
  slots: readonly Cidr[],
  options: CallOptions,
): Promise<ReadonlySet<Cidr>> {
  const asked = slots.filter((slot) => reserved.isFree(slot));
  if (asked.length === 0) return new Set();
  const gets = asked.map((slot) => ({ get: keys.slot(formatCidr(slot)) }));
  const { reads } = await store.txn({ then: gets }, options);
  return new Set(asked.filter((_, index) => reads[index] === undefined));
}

async function readSlots(store: Store, cluster: ClusterView, options: CallOptions): Promise<SlotTable> {
  return tableOf(cluster, (await listAll(store, prefixes.slots, options)).entries);
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
