import { expect, test } from "vitest";
import { bench } from "../src/bench.ts";
import type { Figure } from "../src/figure.ts";
import { quickSizes, type Sizes } from "../src/sizes.ts";

/** So small that times mean nothing; what is counted must be right all the same. */
const tiny: Sizes = {
  ...quickSizes,
  processes: 2,
  registrations: 24,
  warmUps: 20,
  parentCIDR: "10.64.0.0/16",
  nodes: 6,
  leasesPerNode: 140,
  agents: 4,
  watchMs: 300,
  sessions: 8,
  // A process that stands still for a while must not lose one.
  sessionTtlMs: 8_000,
  heartbeatMs: 1_200,
  pausedMs: 200,
  downMs: 100,
  blackholeMs: 300,
  settleMs: 1_500,
};

for (const store of ["etcd", "redis"] as const) {
  test.concurrent(`${store}: what the benchmark counts is right`, { timeout: 180_000 }, async () => {
    const { figures, failures } = await bench({ sizes: tiny, stores: [store] });
    expect(failures).toEqual([]);
    const named = (what: string): Figure[] => figures.filter((figure) => figure.what.trim().startsWith(what));
    const counts = (what: string) => named(what).map(({ ours, raw = 0 }) => [ours, raw]);

    expect(counts("duplicate subnets")).toEqual([
      [0, 0],
      [0, 0],
    ]);
    for (const [writes = 0] of counts("writing transactions per node"))
      expect(writes).toBeGreaterThanOrEqual(1);
    expect(counts("leases that it misses")).toEqual([[0, 0]]);
    expect(counts("4 idle agents: batches received")).toEqual([[0, 0]]);
    expect(counts("agents deaf")).toEqual([[0, 0]]);
    for (const [ours] of counts("nodes that gave up")) expect(ours).toBe(0);
    expect(counts("sessions lost")).toEqual([[0, 0]]);
    for (const what of ["stopped", "killed", "black hole", "first news of a watch"]) {
      for (const { ours } of named(what)) expect(ours, what).toBeLessThan(Number.POSITIVE_INFINITY);
    }
    for (const figure of figures) expect(figure.ours, figure.what).not.toBeNaN();
  });
}
