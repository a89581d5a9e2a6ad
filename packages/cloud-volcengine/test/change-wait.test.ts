import { describe, expect, it } from "vitest";
import { NodeFixture } from "./node-fixture.ts";
import { delays, VolcengineWorld } from "./volcengine-world.ts";

describe("what the cloud takes its time for", () => {
  it("is looked at when it is to be expected, once one has been seen", async () => {
    await using world = await VolcengineWorld.open({
      delays: { ...delays, detachMs: 300, deleteEniMs: 300 },
    });
    const nodes = [
      await NodeFixture.start(world, { poolSize: 5 }),
      await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 5 }),
    ] as const;
    const targets = [
      nodes[0].target(await nodes[0].provision()),
      nodes[1].target(await nodes[1].provision()),
    ];
    const looks: number[] = [];
    for (const target of targets) {
      for (const operation of ["fence", "release"] as const) {
        const since = world.requests.length;
        await nodes[0].cloud[operation](target, nodes[0].job());
        const made = world.requests.slice(since);
        looks.push(made.filter(({ action }) => action === "DescribeNetworkInterfaces").length);
      }
    }
    const [fence = 0, release = 0, ...later] = looks;
    // One before it, and one when it was to be expected: two, where nothing else is going on. Before it was a dozen.
    expect(Math.min(fence, release)).toBeGreaterThanOrEqual(2 * Math.max(...later));
  });
});
