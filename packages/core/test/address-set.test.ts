import {
  type AddressRange,
  AddressSet,
  blockOf,
  lastOf,
  parseAddress,
  parseCidr,
  rangeOf,
  type Span,
  sizeOf,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

// Small universes at both ends and in the middle of the address space; the naive model is a Set of integers.
const universes = ["0.0.0.0/25", "127.255.255.128/25", "128.0.0.0/25", "255.255.255.128/25"].map((text) =>
  parseCidr(text),
);
const offset = fc.nat({ max: 127 });
/** A span relative to its universe. */
const relativeSpan: fc.Arbitrary<(base: number) => Span> = fc.oneof(
  offset.map((a) => (base: number) => base + a),
  fc.tuple(offset, fc.integer({ min: 25, max: 32 })).map(
    ([a, prefix]) =>
      (base: number) =>
        blockOf(base + a, prefix),
  ),
  fc.tuple(offset, offset).map(([a, b]) => (base: number) => ({
    first: base + Math.min(a, b),
    last: base + Math.max(a, b),
  })),
);
const change = fc.record({ add: fc.boolean(), span: relativeSpan });
const world = fc
  .tuple(fc.constantFrom(...universes), fc.array(change, { maxLength: 30 }))
  .map(([universe, changes]) => {
    const set = new AddressSet();
    const model = new Set<number>();
    for (const { add, span } of changes) {
      const placed = span(universe.base);
      if (add) set.add(placed);
      else set.remove(placed);
      for (const address of addressesOf(placed)) {
        if (add) model.add(address);
        else model.delete(address);
      }
    }
    return { universe, set, model };
  });

function addressesOf(span: Span): number[] {
  const { first, last } = rangeOf(span);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function sorted(model: ReadonlySet<number>): number[] {
  return [...model].sort((a, b) => a - b);
}

function naiveRanges(model: ReadonlySet<number>): AddressRange[] {
  const starts = sorted(model).filter((address) => !model.has(address - 1));
  const ends = sorted(model).filter((address) => !model.has(address + 1));
  return starts.map((first, i) => ({ first, last: ends[i] ?? Number.NaN }));
}

describe("AddressSet against a set of integers", () => {
  it("holds what was added and not removed", () => {
    fc.assert(
      fc.property(world, ({ set, model }) => {
        expect([...set]).toEqual(sorted(model));
        expect(set.size).toBe(model.size);
        expect([...set.ranges()]).toEqual(naiveRanges(model));
      }),
    );
  });

  it("answers has, overlaps and count of any span", () => {
    fc.assert(
      fc.property(world, relativeSpan, ({ universe, set, model }, span) => {
        const addresses = addressesOf(span(universe.base));
        const held = addresses.filter((address) => model.has(address)).length;
        expect(set.count(span(universe.base))).toBe(held);
        expect(set.has(span(universe.base))).toBe(held === addresses.length);
        expect(set.overlaps(span(universe.base))).toBe(held > 0);
      }),
    );
  });

  it("finds the nth address, and none beyond either end", () => {
    fc.assert(
      fc.property(world, ({ set, model }) => {
        expect(sorted(model).map((_, i) => set.nth(i))).toEqual(sorted(model));
        expect([set.nth(-1), set.nth(model.size), set.nth(0.5)]).toEqual([undefined, undefined, undefined]);
      }),
    );
  });

  it("finds the lowest free address of any span", () => {
    fc.assert(
      fc.property(world, relativeSpan, ({ universe, set, model }, span) => {
        const expected = addressesOf(span(universe.base)).find((address) => !model.has(address));
        expect(set.lowestFree(span(universe.base))).toBe(expected);
      }),
    );
  });

  it("finds the lowest free aligned block of any size in any span", () => {
    fc.assert(
      fc.property(
        world,
        relativeSpan,
        fc.integer({ min: 25, max: 32 }),
        ({ universe, set, model }, span, prefix) => {
          const within = new Set(addressesOf(span(universe.base)));
          const base = sorted(within).find((address) => {
            const candidate = blockOf(address, prefix);
            return (
              candidate.base === address &&
              addressesOf(candidate).every((member) => within.has(member) && !model.has(member))
            );
          });
          expect(set.lowestFreeBlock(span(universe.base), prefix)).toEqual(
            base === undefined ? undefined : { base, prefix },
          );
        },
      ),
    );
  });

  it("unites, intersects and subtracts", () => {
    fc.assert(
      fc.property(world, world, (a, b) => {
        const both = new Set([...a.model].filter((address) => b.model.has(address)));
        expect([...a.set.union(b.set)]).toEqual(sorted(new Set([...a.model, ...b.model])));
        expect([...a.set.intersect(b.set)]).toEqual(sorted(both));
        expect([...a.set.subtract(b.set)]).toEqual(sorted(a.model).filter((address) => !both.has(address)));
        expect(a.set.equals(b.set)).toBe(both.size === a.model.size && both.size === b.model.size);
      }),
    );
  });

  it("keeps counts and gaps right through set algebra", () => {
    fc.assert(
      fc.property(world, world, fc.integer({ min: 25, max: 32 }), (a, b, prefix) => {
        const united = a.set.union(b.set);
        const rebuilt = new AddressSet(united.ranges());
        expect(united.size).toBe(rebuilt.size);
        expect(united.lowestFreeBlock(a.universe, prefix)).toEqual(
          rebuilt.lowestFreeBlock(a.universe, prefix),
        );
      }),
    );
  });
});

describe("AddressSet over the whole address space", () => {
  it("counts up to 2^32", () => {
    const all = parseCidr("0.0.0.0/0");
    const set = new AddressSet([all]);
    expect(set.size).toBe(2 ** 32);
    expect([...set.ranges()]).toEqual([{ first: 0, last: 2 ** 32 - 1 }]);
    expect(set.lowestFree(all)).toBeUndefined();
    set.remove(2 ** 32 - 1);
    expect(set.size).toBe(2 ** 32 - 1);
    expect(set.lowestFree(all)).toBe(2 ** 32 - 1);
    expect(set.nth(2 ** 32 - 2)).toBe(2 ** 32 - 2);
    expect([...set.blocks()]).toHaveLength(32);
  });

  it("is empty of everything when nothing was added", () => {
    const set = new AddressSet();
    expect([set.size, set.nth(0), [...set.blocks()]]).toEqual([0, undefined, []]);
    expect(set.lowestFreeBlock(parseCidr("0.0.0.0/0"), 0)).toEqual({ base: 0, prefix: 0 });
  });

  it("agrees with itself on big random spans", () => {
    const anyAddress = fc.nat({ max: 2 ** 32 - 1 });
    const ranges = fc.array(
      fc.tuple(anyAddress, anyAddress).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) })),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(ranges, ranges, (a, b) => {
        const [left, right] = [new AddressSet(a), new AddressSet(b)];
        const both = left.intersect(right);
        expect(left.union(right).size).toBe(left.size + right.size - both.size);
        expect(left.subtract(right).size).toBe(left.size - both.size);
        const ends = [...left.ranges()];
        expect(ends.every(({ first, last }) => left.has({ first, last }))).toBe(true);
        expect(ends.some(({ first }) => first > 0 && left.has(first - 1))).toBe(false);
        expect([...left.blocks()].reduce((sum, { prefix }) => sum + sizeOf(prefix), 0)).toBe(left.size);
      }),
    );
  });

  it("fills a /16 one lowest address after the other, and ends", () => {
    const pool = parseCidr("172.20.0.0/16");
    const set = new AddressSet();
    for (let expected = pool.base; expected <= lastOf(pool); expected++) {
      const address = set.lowestFree(pool);
      if (address !== expected) expect(address).toBe(expected);
      set.add(expected);
    }
    expect(set.lowestFree(pool)).toBeUndefined();
    expect([...set.blocks()]).toEqual([pool]);
  });
});

describe("AddressSet as a value", () => {
  it("copies without sharing later changes", () => {
    const original = new AddressSet([parseCidr("10.0.0.0/24")]);
    const copy = original.clone();
    copy.remove(parseAddress("10.0.0.7"));
    original.add(parseAddress("10.0.1.0"));
    expect([original.size, copy.size]).toEqual([257, 255]);
  });

  it("walks the set as it was when the walk began, also while it changes", () => {
    const set = new AddressSet([parseCidr("10.0.0.0/30")]);
    const seen: number[] = [];
    for (const address of set) {
      seen.push(address);
      set.remove(parseCidr("10.0.0.0/8"));
    }
    expect(seen).toHaveLength(4);
    expect(set.size).toBe(0);
  });
});
