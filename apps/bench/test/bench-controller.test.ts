import { describe, expect, it } from "vitest";
import { controllerBench } from "../src/controller/bench.ts";
import { reclaimLeast } from "../src/controller/least-reclaim.ts";
import { type ControllerSizes, quickSizes } from "../src/controller/sizes.ts";

/** So small that times mean nothing; what is counted must be right all the same. */
const tiny: ControllerSizes = {
  ...quickSizes,
  nodes: 24,
  leasesPerNode: 20,
  losses: [2],
  enisPerNode: 1,
  // A process that stands still for a while must not lose either.
  sessionTtlMs: 4_000,
  leaderTtlMs: 4_000,
  suspectAfterMs: 100,
  reclaimAfterMs: 200,
  confirmAfterMs: 100,
  quarantineMs: 100,
  idleMs: 200,
  delays: { detachMs: 100, deleteEniMs: 100 },
};

describe("the least of a reclaim", () => {
  it("is bound by what has to come into effect for one node, by the bucket for many", () => {
    const sizes: ControllerSizes = {
      ...tiny,
      enisPerNode: 2,
      confirmAfterMs: 1_000,
      quarantineMs: 1_000,
      rates: { read: { perSecond: 100, burst: 100 }, write: { perSecond: 2, burst: 2 } },
      delays: { detachMs: 4_000, deleteEniMs: 1_000 },
    };
    expect(reclaimLeast(1, sizes)).toMatchObject({ writes: 4, reads: 9, fencedMs: 5_000, ms: 6_000 });
    // 40 writes, the first two at 1 s, the last at 20 s.
    expect(reclaimLeast(10, sizes)).toMatchObject({ writes: 40, fencedMs: 14_000, ms: 21_000 });
  });
});

it("what is counted is right, and every lost node's block is free again", { timeout: 180_000 }, async () => {
  const { figures, failures, notes } = await controllerBench({ sizes: tiny, stores: ["redis"] });
  expect(failures).toEqual([]);
  const named = (what: string) => figures.filter((figure) => figure.what.trim() === what);
  expect(named("of them writes").map(({ ours, raw }) => [ours, raw])).toEqual([[4, 4]]);
  for (const what of ["refused for the rate", "problems told"]) {
    expect(
      named(what).map(({ ours }) => ours),
      what,
    ).toEqual([0]);
  }
  for (const figure of figures) expect(figure.ours, figure.what).toBeGreaterThanOrEqual(0);
  for (const { ours, raw = 0 } of named("all free after that")) expect(ours).toBeGreaterThanOrEqual(raw);
  expect(notes.join("\n")).toContain("the last of 4 writes at");
});
