/**
 * What one allocation costs in a nearly full range against an empty one (it should be the same).
 * Run from the package: `node --conditions=@cocoon-net/source bench/address-set.ts`.
 */
import { AddressSet, type Cidr, lastOf, parseCidr, SlotTable, sizeOf } from "@cocoon-net/core";

const batch = 20_000;
const rounds = 15;

/** Nanoseconds of one run of `allocate`: the median over rounds, each the mean of a batch. */
function cost(allocate: () => void): number {
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < batch; i++) allocate();
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  return samples.sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? Number.NaN;
}

/** Finds a free address, takes it and gives it back. */
function addressAllocation(pool: Cidr, taken: AddressSet): () => void {
  return () => {
    const address = taken.lowestFree(pool);
    if (address === undefined) throw new Error("no address is free");
    taken.add(address);
    taken.remove(address);
  };
}

/** Finds a free slot, takes it and gives it back. */
function slotAllocation(table: SlotTable): () => void {
  return () => {
    const slot = table.lowestFree();
    if (slot === undefined) throw new Error("no slot is free");
    table.take(slot);
    table.release(slot);
  };
}

function report(what: string, fills: readonly (readonly [string, () => void])[]): void {
  for (const [, allocate] of fills) cost(allocate);
  let baseline: number | undefined;
  for (const [fill, allocate] of fills) {
    const nanoseconds = cost(allocate);
    baseline ??= nanoseconds;
    console.log(
      `${what.padEnd(24)} ${fill.padEnd(20)} ${nanoseconds.toFixed(0).padStart(6)} ns   ×${(nanoseconds / baseline).toFixed(2)}`,
    );
  }
}

const pool = parseCidr("172.20.0.0/16");
const everyOther = new AddressSet();
for (let address = pool.base; address < lastOf(pool); address += 2) everyOther.add(address);
// Scattered, and with its lowest free address at the very end: the worst case of a search from the front.
const scattered = new AddressSet([pool]);
for (let address = lastOf(pool); address > pool.base + sizeOf(17); address -= 3) scattered.remove(address);

report("address out of a /16", [
  ["empty", addressAllocation(pool, new AddressSet())],
  ["every other taken", addressAllocation(pool, everyOther)],
  ["first half taken", addressAllocation(pool, scattered)],
  [
    "one free, the last",
    addressAllocation(pool, new AddressSet([{ first: pool.base, last: lastOf(pool) - 1 }])),
  ],
]);

const parent = parseCidr("10.0.0.0/8");
const nearlyFull = new SlotTable(parent, 24, []);
while (nearlyFull.free > 1) {
  const slot = nearlyFull.lowestFree();
  if (slot) nearlyFull.take(slot);
}

report("/24 slot out of a /8", [
  ["empty", slotAllocation(new SlotTable(parent, 24, []))],
  ["one free, the last", slotAllocation(nearlyFull)],
]);
