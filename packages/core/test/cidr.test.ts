import {
  type AddressRange,
  aggregate,
  blockOf,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  hostRange,
  InvalidError,
  lastOf,
  nextFreeBlock,
  overlaps,
  parseAddress,
  parseCidr,
  rangeOf,
  sizeOf,
  split,
  subtract,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

// A small universe, 10.0.0.0/25, in which every claim is checked against plain sets of integers.
const universe = parseCidr("10.0.0.0/25");
const block = fc
  .tuple(fc.nat({ max: sizeOf(universe.prefix) - 1 }), fc.integer({ min: universe.prefix, max: 32 }))
  .map(([offset, prefix]) => blockOf(universe.base + offset, prefix));
const blocks = fc.array(block, { maxLength: 12 });
const anyBlock = fc
  .tuple(fc.nat({ max: 2 ** 32 - 1 }), fc.nat({ max: 32 }))
  .map(([address, prefix]) => blockOf(address, prefix));

function members(...spans: readonly (Cidr | AddressRange)[]): Set<number> {
  const set = new Set<number>();
  for (const { first, last } of spans.map(rangeOf)) for (let a = first; a <= last; a++) set.add(a);
  return set;
}

/** The fewest aligned blocks by definition: a block is kept when its parent is not wholly in the set. */
function naiveBlocks(set: ReadonlySet<number>): Cidr[] {
  const full = (b: Cidr): boolean => [...members(b)].every((a) => set.has(a));
  const found = new Map<string, Cidr>();
  for (const address of set) {
    let widest = blockOf(address, 32);
    for (let prefix = 31; prefix >= universe.prefix - 1 && full(blockOf(address, prefix)); prefix--) {
      widest = blockOf(address, prefix);
    }
    found.set(formatCidr(widest), widest);
  }
  return [...found.values()].sort((a, b) => a.base - b.base);
}

const cidrs = (...texts: string[]): Cidr[] => texts.map((text) => parseCidr(text));
const show = (list: Iterable<Cidr>): string[] => [...list].map(formatCidr);

describe("contains and overlaps", () => {
  it("agree with sets of addresses", () => {
    fc.assert(
      fc.property(block, block, (a, b) => {
        const inner = [...members(b)];
        expect(contains(a, b)).toBe(inner.every((address) => members(a).has(address)));
        expect(overlaps(a, b)).toBe(inner.some((address) => members(a).has(address)));
      }),
    );
  });

  it("hold at the ends of the address space", () => {
    const [all = universe, high = universe, low = universe] = cidrs("0.0.0.0/0", "128.0.0.0/1", "0.0.0.0/1");
    expect(contains(all, high)).toBe(true);
    expect(contains(high, all)).toBe(false);
    expect(overlaps(high, low)).toBe(false);
    expect(contains(high, parseAddress("255.255.255.255"))).toBe(true);
  });
});

describe("split", () => {
  it("tiles the block in ascending order", () => {
    fc.assert(
      fc.property(block, fc.nat({ max: 7 }), (parent, more) => {
        const prefix = Math.min(32, parent.prefix + more);
        const parts = [...split(parent, prefix)];
        expect(parts).toHaveLength(2 ** (prefix - parent.prefix));
        expect(parts.every((part) => part.prefix === prefix)).toBe(true);
        expect(parts.flatMap((part) => [...members(part)])).toEqual([...members(parent)]);
      }),
    );
  });

  it("is lazy: the first of four thousand million parts comes at once", () => {
    const [first] = split(parseCidr("0.0.0.0/0"), 32);
    expect(first).toEqual({ base: 0, prefix: 32 });
  });

  it("ends at the top of the address space", () => {
    expect(show(split(parseCidr("255.255.255.252/30"), 31))).toEqual([
      "255.255.255.252/31",
      "255.255.255.254/31",
    ]);
  });

  it("refuses a prefix that does not fit when it is called, not when it is read", () => {
    expect(() => split(universe, 24)).toThrow(InvalidError);
    expect(() => split(universe, 33)).toThrow("10.0.0.0/25 cannot be cut into /33 blocks");
  });
});

describe("subtract and aggregate", () => {
  it("subtract leaves the fewest blocks of exactly the rest", () => {
    fc.assert(
      fc.property(block, blocks, (parent, holes) => {
        const gone = members(...holes);
        const rest = new Set([...members(parent)].filter((address) => !gone.has(address)));
        expect(subtract(parent, holes)).toEqual(naiveBlocks(rest));
      }),
    );
  });

  it("aggregate gives the fewest blocks of exactly the union", () => {
    fc.assert(
      fc.property(blocks, (parts) => {
        expect(aggregate(parts)).toEqual(naiveBlocks(members(...parts)));
      }),
    );
  });

  it("aggregate neither loses nor adds to any block of the whole address space", () => {
    fc.assert(
      fc.property(anyBlock, fc.nat({ max: 6 }), (parent, more) => {
        const parts = [...split(parent, Math.min(32, parent.prefix + more))];
        expect(aggregate(parts.reverse())).toEqual([parent]);
        expect(subtract(parent, parts)).toEqual([]);
      }),
    );
  });

  it("a range in the fewest blocks is exactly the range", () => {
    const offset = fc.nat({ max: 127 });
    fc.assert(
      fc.property(offset, offset, (a, b) => {
        const range = { first: universe.base + Math.min(a, b), last: universe.base + Math.max(a, b) };
        expect(aggregate([range])).toEqual(naiveBlocks(members(range)));
      }),
    );
  });

  it("cut a /32 alias out of a /24 range in eight blocks", () => {
    expect(show(subtract(parseCidr("172.20.100.0/24"), cidrs("172.20.100.77/32")))).toEqual([
      "172.20.100.0/26",
      "172.20.100.64/29",
      "172.20.100.72/30",
      "172.20.100.76/32",
      "172.20.100.78/31",
      "172.20.100.80/28",
      "172.20.100.96/27",
      "172.20.100.128/25",
    ]);
  });

  it("know the widest uneven range: all but the first and the last address", () => {
    expect(aggregate([{ first: 1, last: 2 ** 32 - 2 }])).toHaveLength(62);
  });
});

describe("hostRange", () => {
  const hosts = (text: string): string => {
    const { first, last } = hostRange(parseCidr(text));
    return `${formatAddress(first)}-${formatAddress(last)}`;
  };

  it("leaves out the network and the broadcast address", () => {
    expect(hosts("10.0.0.0/24")).toBe("10.0.0.1-10.0.0.254");
    expect(hosts("10.0.0.0/30")).toBe("10.0.0.1-10.0.0.2");
    expect(hosts("0.0.0.0/0")).toBe("0.0.0.1-255.255.255.254");
  });

  it("keeps both ends of a point-to-point /31 and the one address of a /32 (RFC 3021)", () => {
    expect(hosts("10.0.0.2/31")).toBe("10.0.0.2-10.0.0.3");
    expect(hosts("10.0.0.7/32")).toBe("10.0.0.7-10.0.0.7");
  });
});

describe("nextFreeBlock", () => {
  it("finds the first part that touches nothing used", () => {
    fc.assert(
      fc.property(block, fc.nat({ max: 7 }), blocks, (parent, more, used) => {
        const prefix = Math.min(32, parent.prefix + more);
        const expected = [...split(parent, prefix)].find((part) => !used.some((b) => overlaps(b, part)));
        expect(nextFreeBlock(parent, prefix, used)).toEqual(expected);
      }),
    );
  });

  it("refuses a block wider than its parent", () => {
    expect(() => nextFreeBlock(universe, 24, [])).toThrow(InvalidError);
  });

  it("finds the last free block of a /8", () => {
    const parent = parseCidr("10.0.0.0/8");
    const last = { base: lastOf(parent) - 255, prefix: 24 };
    expect(nextFreeBlock(parent, 24, subtract(parent, [last]))).toEqual(last);
    expect(nextFreeBlock(parent, 24, [parent])).toBeUndefined();
  });
});
