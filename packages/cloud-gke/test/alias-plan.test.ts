import { AddressSet, contains, parseCidr } from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AliasGoal,
  bindGoal,
  countAfter,
  isSame,
  nextStep,
  shapeGoal,
  unbindGoal,
} from "../src/alias-plan.ts";
import { formatInstanceRef, parseInstanceRef } from "../src/instance-ref.ts";
import { deliveredOf } from "../src/node-addresses.ts";
import { podRange } from "../src/pod-range-names.ts";
import type { AliasRange } from "../src/wire.ts";

const block = "172.20.100.0/24";

const alias: fc.Arbitrary<AliasRange> = fc.record({
  cidr: fc
    .tuple(fc.integer({ min: 98, max: 102 }), fc.constantFrom("0/24", "0/25", "128/25", "7/32"))
    .map(([third, rest]) => `172.20.${third}.${rest}`),
  rangeName: fc.constantFrom(undefined, podRange, "other"),
});
const aliases = fc.uniqueArray(alias, { comparator: isSame, maxLength: 12 });

/** What the API would make of the steps; it refuses one that both adds and removes. */
function play(start: readonly AliasRange[], goal: AliasGoal): { list: readonly AliasRange[]; steps: number } {
  let list = start;
  for (let steps = 0; ; steps++) {
    expect(steps).toBeLessThan(3);
    const step = nextStep(list, goal);
    if (step === undefined) return { list, steps };
    const added = step.list.filter((one) => !list.some((held) => isSame(held, one)));
    const removed = list.filter((held) => !step.list.some((one) => isSame(held, one)));
    expect(added.length === 0 || removed.length === 0).toBe(true);
    expect(added.length + removed.length).toBeGreaterThan(0);
    list = step.list;
  }
}

const cidr = parseCidr(block);
const others = (all: readonly AliasRange[]) => all.filter(({ rangeName }) => rangeName !== podRange);
const missingOf = (held: readonly AliasRange[]) => new AddressSet([cidr]).subtract(deliveredOf(held, cidr));

describe("the plan for an interface's aliases", () => {
  it("to bind a block ends in at most two steps, takes none of it away, and leaves what is not ours", () => {
    fc.assert(
      fc.property(aliases, (start) => {
        const goal = bindGoal(start, cidr, podRange, missingOf(start));
        const { list } = play(start, goal);
        expect(missingOf(list).size).toBe(0);
        expect(list.length).toBe(countAfter(start, goal));
        const inBlock = start.filter(
          (one) => one.rangeName === podRange && contains(cidr, parseCidr(one.cidr)),
        );
        expect(list).toEqual(expect.arrayContaining([...others(start), ...inBlock]));
        // Of other blocks there is only what may have been moved here: single addresses.
        const outside = list.filter(
          (one) => one.rangeName === podRange && !contains(cidr, parseCidr(one.cidr)),
        );
        expect(outside.every((one) => one.cidr.endsWith("/32") && start.includes(one))).toBe(true);
      }),
    );
  });

  it("to give a block a shape ends in at most two steps with exactly that, in the fewest aliases", () => {
    const holes = fc.uniqueArray(fc.integer({ min: cidr.base, max: cidr.base + 255 }), { maxLength: 5 });
    fc.assert(
      fc.property(aliases, holes, (start, without) => {
        const wanted = new AddressSet([cidr]);
        for (const hole of without) wanted.remove(hole);
        const goal = shapeGoal(cidr, podRange, wanted);
        const { list } = play(start, goal);
        expect(deliveredOf(list, cidr).equals(wanted)).toBe(true);
        expect(list.filter((one) => goal.add.some((each) => isSame(one, each)))).toHaveLength(
          [...wanted.blocks()].length,
        );
        expect(others(list)).toEqual(others(start));
        // Run again from anywhere on the way, it ends the same.
        const half = nextStep(start, goal)?.list ?? start;
        expect(deliveredOf(play(half, goal).list, cidr).equals(wanted)).toBe(true);
      }),
    );
  });

  it("to unbind a block takes off what lies in it, and nothing else", () => {
    fc.assert(
      fc.property(aliases, (start) => {
        const { list, steps } = play(start, unbindGoal([cidr]));
        expect(steps).toBeLessThan(2);
        const inBlock = (one: AliasRange) => one.rangeName === podRange && one.cidr.startsWith("172.20.100.");
        expect(list).toEqual(start.filter((one) => !inBlock(one)));
      }),
    );
  });
});

describe("the id of an instance", () => {
  it.each(["demo-project/us-central1-a/node-1/7300000000000001000", "example.com:p-1/me-west1-b/n/1"])(
    "%s is read and written",
    (text) => {
      const ref = parseInstanceRef(text);
      expect(ref && formatInstanceRef(ref)).toBe(text);
    },
  );

  it.each([
    "",
    "node-1",
    "p/z/n/1",
    "p/us-a1-a/n/0",
    "p/us-a1-a/n/01",
    "p/us-a1-a/../1",
    "p/us-a1-a/n/1/x",
    "i-abc",
  ])("%j is none", (text) => {
    expect(parseInstanceRef(text)).toBeUndefined();
  });
});
