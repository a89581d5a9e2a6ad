import fc from "fast-check";
import { expect, test } from "vitest";
import { History, type Step } from "./histories.ts";

const happenings: readonly (readonly [weight: number, what: Step["what"]])[] = [
  [8, "pass"],
  [3, "die"],
  [3, "hang"],
  [4, "return"],
  [2, "drain"],
  [1, "undrain"],
  [2, "reclaim"],
  [2, "force"],
  [5, "move"],
  [1, "stop-move"],
  [2, "guest-gone"],
  [1, "guest-comes"],
  [1, "pause"],
  [1, "resume"],
  [2, "cloud-fails"],
  [1, "cloud-stale"],
  [2, "nic-stuck"],
  [1, "answers-lost"],
  [1, "store-away"],
  [2, "kill"],
  [1, "deaf"],
];

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.oneof(...happenings.map(([weight, what]) => ({ weight, arbitrary: fc.constant(what) }))),
  node: fc.nat({ max: 4 }),
  other: fc.nat({ max: 4 }),
  ms: fc.integer({ min: 500, max: 40_000 }),
});

const runs = Number(process.env.COCOON_NET_HISTORIES ?? "2000");

// Guards: all of Reclaim, Move, Returns, the operators' requests and the registry at once; see History for what is watched.
test("in random histories no guarantee is ever broken, and every one comes to rest", {
  timeout: 120_000,
}, async () => {
  const seed = Number(process.env.COCOON_NET_SEED ?? Date.now() % 2 ** 31);
  console.info(`histories: seed ${seed}, ${runs} runs`);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      await using history = await History.open();
      for (const each of steps) await history.play(each);
      const report = await history.heal();
      expect(history.violations).toEqual([]);
      expect(report.findings.filter((finding) => !history.isExplained(finding))).toEqual([]);
    }),
    // On a busy machine fewer histories, rather than a longer run.
    { seed, numRuns: runs, interruptAfterTimeLimit: 30_000 },
  );
});
