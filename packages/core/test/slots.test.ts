import {
  blockOf,
  type Cidr,
  candidateSlots,
  checkSubnet,
  contains,
  formatCidr,
  InvalidError,
  overlaps,
  parseCidr,
  SlotTable,
  slotsOf,
  split,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const parent = parseCidr("172.20.0.0/20");
const nodePrefix = 24;
const allSlots = [...split(parent, nodePrefix)];
/** Blocks in and around the parent, narrower and wider than a slot. */
const block = fc
  .tuple(fc.integer({ min: -512, max: 4607 }), fc.integer({ min: 21, max: 30 }))
  .map(([offset, prefix]) => blockOf(parent.base + offset, prefix));
const reservedBlocks = fc.array(block, { maxLength: 3 });

describe("slotsOf", () => {
  it("names every slot that the subnet touches, and no other", () => {
    fc.assert(
      fc.property(block, (subnet) => {
        const touched = slotsOf(subnet, nodePrefix);
        expect(touched.every((slot) => slot.prefix === nodePrefix && overlaps(slot, subnet))).toBe(true);
        const inside = allSlots.filter((slot) => overlaps(slot, subnet));
        expect(touched.filter((slot) => contains(parent, slot))).toEqual(inside);
      }),
    );
  });

  it("makes two subnets share a slot whenever they overlap, whatever their prefixes (G1)", () => {
    fc.assert(
      fc.property(block, block, (a, b) => {
        const slots = new Set(slotsOf(a, nodePrefix).map(formatCidr));
        const shared = slotsOf(b, nodePrefix).some((slot) => slots.has(formatCidr(slot)));
        expect(shared || !overlaps(a, b)).toBe(true);
      }),
    );
  });

  it("gives a wide subnet several slots and a narrow one the slot around it", () => {
    expect(slotsOf(parseCidr("172.20.2.0/23"), 24).map(formatCidr)).toEqual([
      "172.20.2.0/24",
      "172.20.3.0/24",
    ]);
    expect(slotsOf(parseCidr("172.20.2.64/26"), 24).map(formatCidr)).toEqual(["172.20.2.0/24"]);
  });
});

describe("SlotTable", () => {
  it("agrees with a list of slots after any takes and releases", () => {
    const change = fc.record({ take: fc.boolean(), block });
    fc.assert(
      fc.property(reservedBlocks, fc.array(change, { maxLength: 20 }), block, (reserved, changes, probe) => {
        const table = new SlotTable(parent, nodePrefix, reserved);
        const closed = allSlots.filter((slot) => reserved.some((b) => overlaps(b, slot)));
        let taken: Cidr[] = [];
        for (const { take, block: changed } of changes) {
          if (take) table.take(changed);
          else table.release(changed);
          const rest = taken.filter((slot) => !overlaps(slot, changed));
          const touched = allSlots.filter((slot) => overlaps(slot, changed) && !closed.includes(slot));
          taken = take ? [...rest, ...touched] : rest;
        }
        const free = allSlots.filter((slot) => !closed.includes(slot) && !taken.includes(slot));
        expect(table.total).toBe(allSlots.length - closed.length);
        expect(table.free).toBe(free.length);
        expect(table.lowestFree()).toEqual(free[0]);
        expect(allSlots.filter((slot) => table.isFree(slot))).toEqual(free);
        const probed = slotsOf(probe, nodePrefix).map(formatCidr);
        const freeNames = free.map(formatCidr);
        expect(table.isFree(probe)).toBe(probed.every((slot) => freeNames.includes(slot)));
      }),
    );
  });

  it("counts a slot once that is taken twice", () => {
    const table = new SlotTable(parent, nodePrefix, []);
    const slot = parseCidr("172.20.3.0/24");
    table.take(slot);
    table.take(slot);
    expect(table.free).toBe(15);
    table.release(slot);
    expect(table.free).toBe(16);
  });

  it("gives out a /8 of /24s to the last slot and then says so", () => {
    const big = parseCidr("10.0.0.0/8");
    const table = new SlotTable(big, 24, [parseCidr("10.0.0.0/24")]);
    for (let given = 0; given < 65_535; given++) {
      const slot = table.lowestFree();
      if (slot) table.take(slot);
    }
    expect(table.free).toBe(0);
    expect(table.lowestFree()).toBeUndefined();
    table.release(parseCidr("10.200.7.0/24"));
    expect(table.lowestFree()).toEqual(parseCidr("10.200.7.0/24"));
  });

  it("may be one slot, or none", () => {
    const one = parseCidr("10.0.0.0/24");
    expect(new SlotTable(one, 24, []).lowestFree()).toEqual(one);
    expect(new SlotTable(one, 24, [parseCidr("10.0.0.0/8")]).total).toBe(0);
  });

  it("refuses slots wider than the parent", () => {
    expect(() => new SlotTable(parent, 19, [])).toThrow(InvalidError);
    expect(() => new SlotTable(parent, 19, [])).toThrow(
      "a node prefix of /19 does not fit the parent CIDR 172.20.0.0/20",
    );
  });
});

describe("candidateSlots", () => {
  const first = (count: number, layout: Parameters<typeof candidateSlots>[0], node: string) =>
    candidateSlots(layout, node).take(count).toArray();

  it("visits every slot once", () => {
    fc.assert(
      fc.property(fc.string(), (node) => {
        const seen = [...candidateSlots({ parent, nodePrefix }, node)].map(formatCidr);
        expect(seen.toSorted()).toEqual(allSlots.map(formatCidr).toSorted());
      }),
    );
  });

  it("never changes: agents of different versions agree", () => {
    const layout = { parent: parseCidr("10.0.0.0/8"), nodePrefix: 24 };
    const slots = first(3, layout, "node-1").map(formatCidr);
    expect(slots).toEqual(["10.27.230.0/24", "10.30.49.0/24", "10.32.124.0/24"]);
  });

  it("spreads nodes of like names: 256 over 65,536 slots rarely meet", () => {
    const layout = { parent: parseCidr("10.0.0.0/8"), nodePrefix: 24 };
    const names = Array.from({ length: 256 }, (_, i) => `node-${i}`);
    const slots = new Set(names.flatMap((node) => first(1, layout, node)).map(formatCidr));
    // By chance alone half a pair meets on average.
    expect(slots.size).toBeGreaterThan(250);
  });

  it("works where the parent is the whole address space", () => {
    const layout = { parent: parseCidr("0.0.0.0/0"), nodePrefix: 32 };
    const slots = first(4, layout, "n").map(({ base }) => base);
    expect(new Set(slots).size).toBe(4);
    expect(slots.every((base) => base >= 0 && base < 2 ** 32)).toBe(true);
  });
});

describe("checkSubnet", () => {
  const layout = { parent, nodePrefix, reserved: [parseCidr("172.20.4.0/23"), parseCidr("172.20.8.128/25")] };
  const check = (text: string) => () => checkSubnet(parseCidr(text), layout);

  it.each(["172.20.0.0/24", "172.20.6.0/23", "172.20.9.64/26", "172.20.10.0/23"])("accepts %s", (text) => {
    expect(check(text)).not.toThrow();
  });

  it("names both when the subnet is outside the parent", () => {
    expect(check("172.21.0.0/24")).toThrow(InvalidError);
    expect(check("172.21.0.0/24")).toThrow("subnet 172.21.0.0/24 is outside the parent CIDR 172.20.0.0/20");
    expect(check("172.20.0.0/16")).toThrow("outside the parent");
  });

  it("names the reserved block that the subnet overlaps", () => {
    expect(check("172.20.5.0/24")).toThrow("subnet 172.20.5.0/24 overlaps the reserved block 172.20.4.0/23");
  });

  it("names the slot where only that touches the reserved block", () => {
    expect(check("172.20.8.0/26")).toThrow(
      "subnet 172.20.8.0/26 (slot 172.20.8.0/24) overlaps the reserved block 172.20.8.128/25",
    );
  });

  it("accepts exactly what a fresh table calls free", () => {
    fc.assert(
      fc.property(block, reservedBlocks, (subnet, reserved) => {
        const accepted = (() => {
          try {
            checkSubnet(subnet, { parent, nodePrefix, reserved });
            return true;
          } catch {
            return false;
          }
        })();
        expect(new SlotTable(parent, nodePrefix, reserved).isFree(subnet)).toBe(accepted);
      }),
    );
  });
});
