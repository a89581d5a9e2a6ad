import { RecordedJob } from "@cocoon-net/cloud-testkit";
import { CloudBudget, type ProvisionRequest, ThrottledError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import type { GkeCloud } from "../src/gke-cloud.ts";
import { GkeWorld } from "./gke-world.ts";
import { moveOf, NodeFixture } from "./node-fixture.ts";

async function requestOf(world: GkeWorld, cloud: GkeCloud): Promise<ProvisionRequest> {
  const instance = await cloud.describeSelf();
  return { node: "n", instance, subnet: world.block(0), poolSize: 4, tags: {} };
}

describe("requests", () => {
  it("are as few as can be: to look, to ask, to wait, and to look again", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    const first = [
      "instances.get",
      "subnetworks.get",
      "instances.updateNetworkInterface",
      "zoneOperations.wait",
      "instances.get",
    ];
    expect(world.madeCalls.map(({ action }) => action)).toEqual(first);

    const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1) });
    await guest.provision();
    world.madeCalls.length = 0;
    await node.cloud.move(moveOf("172.20.0.77", node, guest), node.job());
    const actions = world.madeCalls.map(({ action }) => action);
    const change = ["instances.updateNetworkInterface", "zoneOperations.wait", "instances.get"];
    expect(actions).toEqual([
      ...["zoneOperations.list", "instances.get", "instances.get", "subnetworks.get"],
      ...change,
      ...change,
      ...change,
      "instances.aggregatedList",
    ]);

    world.madeCalls.length = 0;
    const target = { ...node.target(), movedAway: ["172.20.0.77"] };
    expect((await node.cloud.fence(target, node.job())).verified).toBe(true);
    expect(world.madeCalls.map(({ action }) => action)).toEqual([
      ...["zoneOperations.list", "instances.get", ...change, "instances.aggregatedList"],
    ]);
  });

  it("are all told, with what became of them", async () => {
    await using world = await GkeWorld.open({ denied: ["compute.subnetworks.get"] });
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "instances.get", kind: "throttle", times: 2 });
    world.simulator.injectFault({ action: "instances.get", kind: "error5xx", after: 0 });
    await expect(node.provision()).rejects.toThrow("compute.subnetworks.get");
    expect(world.madeCalls.map(({ action, result }) => `${action} ${result}`)).toEqual([
      "instances.get throttled",
      "instances.get throttled",
      "instances.get unknown",
      "instances.get ok",
      "subnetworks.get refused",
    ]);
    const told = world.madeCalls.map(({ action }) => action);
    for (const [action, count] of Object.entries(world.simulator.calls)) {
      expect(told.filter((one) => one === action)).toHaveLength(count);
    }
    for (const call of world.madeCalls) {
      expect(call).toMatchObject({ platform: "gke" });
      expect(call.tookMs).toBeGreaterThan(0);
      expect(call.waitedMs).toBeGreaterThanOrEqual(0);
    }
  });
});

describe("the budget", () => {
  it("that allows nothing in time ends a call, and an abort ends the wait", async () => {
    await using world = await GkeWorld.open();
    const slow = { perSecond: 0.001, burst: 1, perMinute: undefined };
    const budget = new CloudBudget({ rates: { gke: { read: slow, write: slow } } });
    const cloud = await world.cloudOn(world.addInstance(), { budgetMs: 50 }, { budget });
    const request = await requestOf(world, cloud);
    await expect(cloud.provision(request, new RecordedJob("a"))).rejects.toThrow(ThrottledError);
    const patient = await world.cloudOn(world.addInstance(), {}, { budget });
    const abort = new AbortController();
    const waiting = patient.provision(request, new RecordedJob("b"), { signal: abort.signal });
    const ended = expect(waiting).rejects.toThrow("enough");
    abort.abort(new Error("enough"));
    await ended;
    expect(world.simulator.calls).toEqual({ "instances.get": 1 });
  });

  it("waits as long as the API says", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "instances.get", kind: "throttle", retryAfterSeconds: 1 });
    const startedAt = performance.now();
    expect(await node.cloud.describeInstance(node.instanceID)).toBe("running");
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(990);
    expect(world.madeCalls.map(({ result }) => result)).toEqual(["throttled", "ok"]);
  });

  it("is not cut for one instance that was changed too often", async () => {
    const limits = { changesPerResourcePerMinute: 1, minuteMs: 400 };
    await using world = await GkeWorld.open({ limits });
    const node = await NodeFixture.start(world);
    await node.provision();
    expect((await node.cloud.release(node.target(), node.job())).remaining).toEqual([]);
    expect(world.aliasesOf(node.instanceID)).toEqual([]);
    expect(world.refused).toBe(0);
  });

  it("has a queue for each purpose, and a caller may choose another", async () => {
    const asked: string[] = [];
    class Watched extends CloudBudget {
      override bucket(...args: Parameters<CloudBudget["bucket"]>): ReturnType<CloudBudget["bucket"]> {
        const bucket = super.bucket(...args);
        const { account, region, class: kind } = args[0];
        return Object.create(bucket, {
          take: {
            value: (...take: Parameters<typeof bucket.take>) => {
              asked.push(`${take[0]} ${account} ${region} ${kind}`);
              return bucket.take(...take);
            },
          },
          succeeded: { value: () => bucket.succeeded() },
          throttled: { value: (ms?: number) => bucket.throttled(ms) },
        });
      }
    }
    await using world = await GkeWorld.open({ networkProject: "host-project" });
    const cloud = await world.cloudOn(world.addInstance(), {}, { budget: new Watched() });
    const request = await requestOf(world, cloud);
    await cloud.provision(request, new RecordedJob("init"));
    expect(asked).toEqual([
      "allocate demo-project us-central1 read",
      "allocate host-project us-central1 read",
      "allocate demo-project us-central1 write",
      "allocate demo-project us-central1 read",
      "allocate demo-project us-central1 read",
    ]);
    asked.length = 0;
    const { instanceID } = request.instance;
    await cloud.describeInstance(instanceID);
    await cloud.describeInstance(instanceID, { purpose: "clean-up" });
    expect(asked.map((line) => line.split(" ")[0])).toEqual(["release", "clean-up"]);
  });
});
