import fc from "fast-check";
import { expect, it } from "vitest";
import { sizeOfWanted } from "../src/eni-addresses.ts";
import { type Need, type Plan, planRequests, type Room } from "../src/plan.ts";

const needs: fc.Arbitrary<Need> = fc.record({
  addresses: fc
    .uniqueArray(fc.integer({ min: 2, max: 250 }), { maxLength: 40 })
    .map((hosts) => hosts.map((host) => `172.20.0.${host}`)),
  count: fc.integer({ min: 0, max: 200 }),
});

const rooms: fc.Arbitrary<Room> = fc.record({
  enis: fc
    .array(fc.integer({ min: 0, max: 20 }), { maxLength: 7 })
    .map((free) => free.map((free, index) => ({ eniID: `eni-${index}`, free }))),
  newEnis: fc.integer({ min: 0, max: 7 }),
  perEni: fc.integer({ min: 1, max: 20 }),
  freeInSubnet: fc.integer({ min: 0, max: 253 }),
});

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

function given({ fills, creations }: Plan): number {
  return sum([...fills.map(({ wanted }) => wanted), ...creations].map(sizeOfWanted));
}

it("never asks for more than is needed, or than there is room for", () => {
  fc.assert(
    fc.property(needs, rooms, (need, room) => {
      const plan = planRequests(need, room);
      expect(given(plan)).toBeLessThanOrEqual(need.addresses.length + need.count);
      expect(given(plan) + plan.creations.length).toBeLessThanOrEqual(room.freeInSubnet);
      expect(plan.creations.length).toBeLessThanOrEqual(room.newEnis);
      for (const wanted of plan.creations) {
        expect(sizeOfWanted(wanted)).toBeGreaterThan(0);
        expect(sizeOfWanted(wanted)).toBeLessThanOrEqual(room.perEni);
      }
      for (const { eniID, free } of room.enis) {
        const fills = plan.fills.filter((fill) => fill.eniID === eniID).map(({ wanted }) => wanted);
        expect(sum(fills.map(sizeOfWanted))).toBeLessThanOrEqual(free);
      }
      const named = [...plan.fills.map(({ wanted }) => wanted), ...plan.creations].flatMap((wanted) =>
        "addresses" in wanted ? wanted.addresses : [],
      );
      expect(new Set(named).size).toBe(named.length);
      expect(need.addresses).toEqual(expect.arrayContaining(named));
    }),
  );
});

it("leaves nothing out that there is room for on the ENIs that are there, and makes none before those are full", () => {
  fc.assert(
    fc.property(needs, rooms, (need, room) => {
      const wanted = need.addresses.length + need.count;
      const there = Math.min(wanted, sum(room.enis.map(({ free }) => free)), room.freeInSubnet);
      const plan = planRequests(need, room);
      expect(sum(plan.fills.map((fill) => sizeOfWanted(fill.wanted)))).toBe(there);
      if (there === wanted) expect(plan.creations).toEqual([]);
    }),
  );
});

it("takes the fewest requests where there are no names", () => {
  const room = { enis: [], newEnis: 7, perEni: 20, freeInSubnet: 253 };
  expect(planRequests({ addresses: [], count: 140 }, room)).toEqual({
    fills: [],
    creations: Array.from({ length: 7 }, () => ({ count: 20 })),
  });
  const enis = [3, 20, 10].map((free, index) => ({ eniID: `eni-${index}`, free }));
  expect(planRequests({ addresses: [], count: 12 }, { ...room, enis })).toEqual({
    fills: [{ eniID: "eni-1", wanted: { count: 12 } }],
    creations: [],
  });
});
