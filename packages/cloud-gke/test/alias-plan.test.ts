import { InvalidError } from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type AliasGoal, bindGoal, isSame, nextStep, podRange, unbindGoal } from "../src/alias-plan.ts";
import { guestAgentFixes } from "../src/guest-agent.ts";
import { formatInstanceRef, parseInstanceRef } from "../src/instance-ref.ts";
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

describe("the plan for an interface's aliases", () => {
  it("ends in at most two steps with the block bound, and all that is not ours untouched", () => {
    fc.assert(
      fc.property(aliases, (start) => {
        const { list } = play(start, bindGoal(block));
        expect(list.filter(({ rangeName }) => rangeName === podRange)).toEqual([
          { cidr: block, rangeName: podRange },
        ]);
        const others = (all: readonly AliasRange[]) => all.filter(({ rangeName }) => rangeName !== podRange);
        expect(others(list)).toEqual(others(start));
      }),
    );
  });

  it("takes off what lies in the block, and nothing else", () => {
    fc.assert(
      fc.property(aliases, (start) => {
        const { list, steps } = play(start, unbindGoal(block));
        expect(steps).toBeLessThan(2);
        const inBlock = ({ cidr, rangeName }: AliasRange) =>
          rangeName === podRange && cidr.startsWith("172.20.100.");
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

it("what the host needs against the guest agent is as the predecessor has it", () => {
  const fixes = guestAgentFixes(block, "ens4");
  expect(fixes.localRoutes).toEqual([{ destination: block, device: "ens4", table: "local" }]);
  expect(fixes.files).toEqual([
    {
      path: "/etc/cron.d/cocoon-net-fix-alias",
      mode: 0o644,
      content: "@reboot root ip route del local 172.20.100.0/24 dev ens4 table local 2>/dev/null || true\n",
    },
  ]);
  expect(() => guestAgentFixes("172.20.100.1/24", "ens4")).toThrow(InvalidError);
});
