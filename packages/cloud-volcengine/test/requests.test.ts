import { CloudBudget, type CloudCall } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { NodeFixture } from "./node-fixture.ts";
import { delays, patience, VolcengineWorld } from "./volcengine-world.ts";

/** Requests of one kind of one node. */
function counts(calls: readonly CloudCall[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { action } of calls) found[action] = (found[action] ?? 0) + 1;
  return found;
}

/** Slower than the pauses between looks, so that no look comes too early on a busy machine, and none is wasted. */
const instant = { ...delays, createEniMs: 0, attachMs: 0, createSubnetMs: 0, detachMs: 0, deleteEniMs: 0 };

describe("no request is made that is not needed", () => {
  it("for a node's first 140 addresses: one for each thing made, and one look at all that was made", async () => {
    await using world = await VolcengineWorld.open({ delays: instant });
    const node = await NodeFixture.start(world, { poolSize: 140 });
    await node.provision();
    expect(counts(world.requests)).toEqual({
      DescribeInstances: 1,
      DescribeInstanceTypes: 1,
      DescribeSubnets: 2,
      CreateSubnet: 1,
      CreateNetworkInterface: 7,
      AttachNetworkInterface: 7,
      DescribeNetworkInterfaces: 2,
    });
  });

  it("to confirm what there is, and to grow and shrink on ENIs that have room", async () => {
    await using world = await VolcengineWorld.open({ delays: instant });
    const node = await NodeFixture.start(world, { poolSize: 5 });
    const network = await node.provision();
    world.requests.length = 0;
    await node.provision();
    expect(counts(world.requests)).toEqual({
      DescribeInstances: 1,
      DescribeSubnets: 1,
      DescribeNetworkInterfaces: 1,
    });

    world.requests.length = 0;
    await node.cloud.provision({ ...node.request, poolSize: 20 }, node.job());
    // The limits of the type are known by now.
    expect(counts(world.requests)).toEqual({
      DescribeInstances: 1,
      DescribeSubnets: 1,
      DescribeNetworkInterfaces: 2,
      AssignPrivateIpAddresses: 1,
    });

    world.requests.length = 0;
    await node.cloud.shrink(node.target(network), network.addresses, node.job());
    expect(counts(world.requests)).toEqual({
      DescribeNetworkInterfaces: 2,
      UnassignPrivateIpAddresses: 1,
    });
  });

  it("to take over warm ENIs: one mark for all, and one attachment each", async () => {
    await using world = await VolcengineWorld.open({ delays: instant });
    const last = await NodeFixture.start(world, { poolSize: 60 });
    const target = { ...last.target(await last.provision()), keepWarm: 3 };
    await last.cloud.fence(target, last.job());
    world.requests.length = 0;
    await last.cloud.release(target, last.job());
    expect(counts(world.requests)).toEqual({ DescribeNetworkInterfaces: 1, TagResources: 1 });

    const next = await NodeFixture.start(world, { node: "n2", poolSize: 60 });
    world.requests.length = 0;
    await next.provision();
    expect(counts(world.requests)).toEqual({
      DescribeInstances: 1,
      DescribeInstanceTypes: 1,
      DescribeSubnets: 1,
      DescribeNetworkInterfaces: 2,
      TagResources: 1,
      AttachNetworkInterface: 3,
    });
  });

  it("to fence and release", async () => {
    await using world = await VolcengineWorld.open({ delays: instant });
    const node = await NodeFixture.start(world, { poolSize: 60 });
    const target = node.target(await node.provision());
    world.requests.length = 0;
    expect(await node.cloud.fence(target, node.job())).toMatchObject({ verified: true });
    await node.cloud.release(target, node.job());
    expect(counts(world.requests)).toEqual({
      // Before and after the detach, before and after the delete.
      DescribeNetworkInterfaces: 4,
      DetachNetworkInterface: 3,
      DescribeSubnets: 1,
      DescribeInstances: 1,
      DeleteNetworkInterface: 3,
    });
  });
});

describe("every request", () => {
  it("is told of, with what became of it", async () => {
    await using world = await VolcengineWorld.open({ retryAfter: true });
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ kind: "throttle", action: "DescribeSubnets", retryAfterSeconds: 0 });
    world.simulator.injectFault({ kind: "error5xx", action: "CreateNetworkInterface" });
    world.simulator.injectFault({
      kind: "refuse",
      code: "InvalidEni.InvalidStatus",
      action: "AttachNetworkInterface",
    });
    await node.provision();
    const results = (action: string) =>
      world.requests.filter((call) => call.action === action).map((call) => call.result);
    expect(results("DescribeSubnets").slice(0, 2)).toEqual(["throttled", "ok"]);
    expect(results("CreateNetworkInterface")).toEqual(["unknown", "ok", "ok"]);
    expect(results("AttachNetworkInterface")).toEqual(["refused", "ok", "ok"]);
    for (const call of world.requests) {
      expect(call.platform).toBe("volcengine");
      expect(call.tookMs).toBeGreaterThan(0);
      expect(call.waitedMs).toBeGreaterThanOrEqual(0);
    }
    const made = Object.values(world.simulator.calls).reduce((sum, count) => sum + count, 0);
    expect(world.requests).toHaveLength(made);
  });

  it("waits for the budget that all clouds of a process share, each purpose in its queue", async () => {
    await using world = await VolcengineWorld.open();
    const read = { perSecond: 5, burst: 1 };
    const budget = new CloudBudget({ rates: { volcengine: { read } } });
    const clouds = [
      await world.cloudOn(world.addInstance(), {}, budget),
      await world.cloudOn(world.addInstance(), {}, budget),
    ];
    const started = performance.now();
    await Promise.all(
      clouds.flatMap((cloud) => [cloud.describeInstance("i-1"), cloud.describeInstance("i-2")]),
    );
    expect(performance.now() - started).toBeGreaterThanOrEqual(590);
    expect(Math.max(...world.requests.map((call) => call.waitedMs))).toBeGreaterThan(100);
  });

  it("of a cloud that is closed stops waiting for the budget", async () => {
    await using world = await VolcengineWorld.open();
    const budget = new CloudBudget({ rates: { volcengine: { read: { perSecond: 0.001, burst: 1 } } } });
    const cloud = await world.cloudOn(world.addInstance(), {}, budget);
    await cloud.describeInstance("i-1");
    const waiting = expect(cloud.describeInstance("i-1")).rejects.toThrow("the Volcengine cloud was closed");
    await cloud[Symbol.asyncDispose]();
    await waiting;
    await expect.poll(() => world.requests.length, patience).toBe(1);
  });
});
