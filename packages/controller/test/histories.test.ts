import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { expect, test } from "vitest";
import { History, happenings, type Step } from "./histories.ts";

const names = Object.keys(happenings) as Step["what"][];

const about = {
  // Mostly the same two, so that what happens meets.
  node: fc.oneof({ weight: 3, arbitrary: fc.nat({ max: 1 }) }, { weight: 2, arbitrary: fc.nat({ max: 4 }) }),
  other: fc.nat({ max: 4 }),
  ms: fc.integer({ min: 500, max: 40_000 }),
};

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.oneof(...names.map((what) => ({ weight: happenings[what], arbitrary: fc.constant(what) }))),
  ...about,
});

/** What chance seldom brings together, on one node. */
const scenes = fc
  .record({
    whats: fc.constantFrom<readonly Step["what"][]>(
      ["move", "pass", "meets-write", "pass"],
      ["move", "pass", "die", "pass", "pass"],
      ["die", "pass", "pass", "heir", "teardown"],
      ["die", "pass", "meets-write", "pass"],
    ),
    ...about,
  })
  .map(({ whats, ...rest }) => whats.map((what): Step => ({ what, ...rest })));

/** Two nodes that each serve an address of the other die. */
const crosswise = fc
  .record({ ...about, ms: fc.integer({ min: 2_000, max: 20_000 }) })
  .map(({ node, other, ms }) =>
    (["move", "pass", "die"] as const).flatMap((what): Step[] =>
      what === "pass"
        ? [{ what, node, other, ms }]
        : [
            { what, node, other, ms },
            { what, node: other, other: node, ms },
          ],
    ),
  );

const histories = fc
  .array(
    fc.oneof(
      { weight: 27, arbitrary: step.map((one) => [one]) },
      { weight: 3, arbitrary: scenes },
      { weight: 1, arbitrary: crosswise },
    ),
    { minLength: 1, maxLength: 25 },
  )
  .map((parts) => parts.flat());

/** Every state of the repository has histories of its own, and the same ones whenever it is tested. */
function seedOfTree(): number {
  const options = { cwd: import.meta.dirname, encoding: "utf8" } as const;
  const { stdout } = spawnSync("git", ["rev-parse", "HEAD^{tree}"], options);
  return Number.parseInt(stdout.slice(0, 8), 16) % 2 ** 31 || Date.now() % 2 ** 31;
}

const runs = Number(process.env.COCOON_NET_HISTORIES ?? "2000");

// Guards: all of Reclaim, Move, Returns, Repair, the operators' requests and the registry at once; HistoryGuarantees says by which rule.
test("in random histories no guarantee is ever broken, and every one comes to rest", {
  timeout: 120_000,
}, async () => {
  const seed = Number(process.env.COCOON_NET_SEED ?? seedOfTree());
  console.info(`histories: seed ${seed}, ${runs} runs`);
  await fc.assert(
    fc.asyncProperty(histories, async (steps) => {
      await using history = await History.open();
      for (const each of steps) await history.play(each);
      const report = await history.heal();
      expect(history.guarantees.violations).toEqual([]);
      expect(report.findings.filter((finding) => !history.isExplained(finding))).toEqual([]);
    }),
    // On a busy machine fewer histories, rather than a longer run.
    { seed, numRuns: runs, interruptAfterTimeLimit: 30_000 },
  );
});
