import { RecordedJob, type SimulatorClock } from "@cocoon-net/cloud-testkit";
import { AuthError, ThrottledError, UnavailableError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { GkeCloud } from "../src/gke-cloud.ts";
import { GkeWorld, impatient, numberOf, patience } from "./gke-world.ts";
import { NodeFixture } from "./node-fixture.ts";

const update = "instances.updateNetworkInterface";
const ours = (cidr: string) => ({ cidr, rangeName: "cocoon-pods" });

/** Holds back what takes as long as {@link HeldClock.heldMs}, until it is released. */
class HeldClock implements SimulatorClock {
  static readonly heldMs = 12_345;
  #held: (() => void)[] | undefined = [];

  now(): number {
    return Date.now();
  }

  after(ms: number, run: () => void): () => void {
    if (ms === HeldClock.heldMs && this.#held !== undefined) {
      this.#held.push(run);
      return () => {};
    }
    const timer = setTimeout(run, ms === HeldClock.heldMs ? 0 : ms);
    return () => clearTimeout(timer);
  }

  release(): void {
    for (const run of this.#held ?? []) run();
    this.#held = undefined;
  }
}

/** A node whose provision writes twice: the range, then the block. */
async function nodeWithTwoWrites(world: GkeWorld, timing = {}): Promise<NodeFixture> {
  const node = await NodeFixture.start(world, {}, timing);
  world.simulator.addAlias(numberOf(node.instanceID), { cidr: "10.4.0.0/24", rangeName: "other" });
  return node;
}

const twoWrites = { secondaryRanges: { other: "10.4.0.0/16" } };

describe("lost answers", () => {
  it("of any write of provision do nothing twice and lose nothing", async () => {
    for (let after = 0; after < 2; after++) {
      await using world = await GkeWorld.open(twoWrites);
      const node = await nodeWithTwoWrites(world);
      world.simulator.injectFault({ kind: "lost-answer", after });
      await node.provision();
      expect(world.aliasesOf(node.instanceID)).toEqual(["other:10.4.0.0/24", "cocoon-pods:172.20.0.0/24"]);
      expect(world.podRange()).toBe(world.block(0));
      expect(world.simulator.describeState().operations).toHaveLength(2);
    }
  });

  it("followed by a crash are made good by the next run, under the same requestId", async () => {
    for (let after = 0; after < 2; after++) {
      await using world = await GkeWorld.open({ ...twoWrites, delays: { operationMs: 30 } });
      // No patience: the lost answer is the end of the first run, while the operation still runs.
      const node = await nodeWithTwoWrites(world, { retryMs: 0, changeMs: 0 });
      const patient = await world.cloudOn(node.instanceID);
      world.simulator.injectFault({ kind: "lost-answer", after });
      const job = node.job();
      await expect(node.provision(job)).rejects.toThrow(UnavailableError);
      const next = job.restarted();
      await patient.provision(node.request, next);
      expect(world.aliasesOf(node.instanceID)).toEqual(["other:10.4.0.0/24", "cocoon-pods:172.20.0.0/24"]);
      const operations = world.simulator.describeState().operations;
      expect(operations.map(({ error }) => error)).toEqual([undefined, undefined]);
    }
  });

  it("of a removal leave nothing", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    world.simulator.injectFault({ kind: "lost-answer" });
    const result = await node.cloud.release(node.target(), node.job());
    expect(result).toEqual({
      released: [expect.stringContaining("cocoon-pods:172.20.0.0/24")],
      remaining: [],
    });
    expect(world.aliasesOf(node.instanceID)).toEqual([]);
  });

  it("of reads and waits are asked for again", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    for (const action of ["instances.get", "subnetworks.get", "zoneOperations.wait"]) {
      world.simulator.injectFault({ action, kind: "lost-answer", times: 2 });
    }
    await node.provision();
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
    expect(world.simulator.calls[update]).toBe(1);
  });
});

describe("an alias that an earlier run has asked for and not seen", () => {
  it.each(["fence", "release"] as const)("is waited for by %s, and taken off", async (verb) => {
    const clock = new HeldClock();
    await using world = await GkeWorld.open({ clock, delays: { operationMs: HeldClock.heldMs } });
    const node = await NodeFixture.start(world, {}, { retryMs: 0, changeMs: 0 });
    const patient = await world.cloudOn(node.instanceID);
    world.simulator.injectFault({ action: update, kind: "lost-answer" });
    await expect(node.provision()).rejects.toThrow(UnavailableError);
    expect(world.aliasesOf(node.instanceID)).toEqual([]);
    const result = patient[verb](node.target(), node.job());
    await expect.poll(() => world.simulator.calls["zoneOperations.wait"], patience).toBe(1);
    clock.release();
    expect(await result).toMatchObject(verb === "fence" ? { verified: true } : { remaining: [] });
    expect(world.aliasesOf(node.instanceID)).toEqual([]);
    expect(world.simulator.describeState().operations.map(({ status }) => status)).toEqual(["DONE", "DONE"]);
  });
});

describe("other writers of the same interface", () => {
  it("win, and nothing of theirs is lost (412)", async () => {
    await using world = await GkeWorld.open({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/16", gke: "10.4.0.0/16" },
    });
    const node = await NodeFixture.start(world);
    // Between the driver's read and its write, twice.
    let left = 2;
    const job = new RecordedJob("race");
    const racing = {
      id: job.id,
      steps: job.steps,
      async record(step: Parameters<typeof job.record>[0]) {
        await job.record(step);
        if (step.phase !== "intent" || left-- <= 0) return;
        world.simulator.addAlias(numberOf(node.instanceID), { cidr: `10.4.${left}.0/24`, rangeName: "gke" });
      },
    };
    await node.cloud.provision(node.request, racing, { onProgress: (line) => node.progress.push(line) });
    expect(world.aliasesOf(node.instanceID)).toEqual([
      "gke:10.4.1.0/24",
      "gke:10.4.0.0/24",
      "cocoon-pods:172.20.0.0/24",
    ]);
    expect(node.progress.filter((line) => line.includes("somebody else was faster"))).toHaveLength(2);
    expect(world.simulator.calls[update]).toBe(3);
  });

  it("are waited for while their operation runs", async () => {
    await using world = await GkeWorld.open({ delays: { operationMs: 40 } });
    const node = await NodeFixture.start(world);
    const second = await world.cloudOn(node.instanceID);
    const networks = await Promise.all([
      node.provision(),
      second.provision(node.request, new RecordedJob("second")),
    ]);
    expect(networks[0]).toEqual(networks[1]);
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("that undo the work are found out, also where fingerprints repeat", async () => {
    for (const fingerprints of ["content", "counter"] as const) {
      await using world = await GkeWorld.open({ fingerprints });
      const node = await NodeFixture.start(world);
      const job = node.job();
      await node.provision(job);
      world.simulator.removeAlias(numberOf(node.instanceID), ours(world.block(0)));
      // The same job again: with equal fingerprints its request is the old one, and so is the answer.
      await node.provision(job.restarted());
      expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
    }
  });
});

it("somebody who undoes the work again and again is not fought for ever", async () => {
  await using world = await GkeWorld.open();
  const node = await NodeFixture.start(world, {}, { changeMs: 1_000 });
  world.simulator.onChange((change) => {
    if (change.kind !== "alias" || change.what !== "added") return;
    world.simulator.removeAlias(change.instance.id, change.alias);
  });
  await expect(node.provision()).rejects.toThrow(/adding cocoon-pods:172.20.0.0\/24 to .* does not last/);
});

it("an abort in the middle of a request is not written down as a failure", async () => {
  await using world = await GkeWorld.open();
  const node = await NodeFixture.start(world);
  world.simulator.injectFault({ action: update, kind: "hang" });
  const [abort, reason, job] = [new AbortController(), new Error("enough"), node.job()];
  const done = expect(node.cloud.provision(node.request, job, { signal: abort.signal })).rejects.toBe(reason);
  await expect.poll(() => world.simulator.calls[update], patience).toBe(1);
  abort.abort(reason);
  await done;
  expect(job.written.map(({ phase }) => phase)).toEqual(["intent"]);
});

describe("operations", () => {
  it("whose wait comes back early are waited for again", async () => {
    await using world = await GkeWorld.open({ delays: { operationMs: 60, waitMs: 5 } });
    const node = await NodeFixture.start(world);
    await node.provision();
    expect(world.simulator.calls["zoneOperations.wait"]).toBeGreaterThan(1);
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("that the API has forgotten are judged by the instance", async () => {
    await using world = await GkeWorld.open({ delays: { retentionMs: 0 } });
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "zoneOperations.wait", kind: "lost-answer" });
    await node.provision();
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
    expect(world.simulator.calls[update]).toBe(1);
  });

  it("that end after the instance was deleted are no success", async () => {
    const clock = new HeldClock();
    await using world = await GkeWorld.open({ clock, delays: { operationMs: HeldClock.heldMs } });
    const node = await NodeFixture.start(world);
    const failure = node.provision();
    const done = expect(failure).rejects.toThrow(/has no instance/);
    await expect.poll(() => world.simulator.calls[update], patience).toBe(1);
    world.deleteInstance(node.instanceID);
    await expect.poll(() => world.simulator.describeState().instances, patience).toEqual([]);
    clock.release();
    await done;
  });
});

describe("an API in trouble", () => {
  it.each([
    ["throttle", 403],
    ["throttle", 429],
    ["error5xx", 403],
  ] as const)("%s (%i): every request is asked again until it works", async (kind, throttleStatus) => {
    await using world = await GkeWorld.open({ throttleStatus });
    const node = await NodeFixture.start(world);
    const asked = [
      "instances.get",
      "subnetworks.get",
      "instances.aggregatedList",
      "zoneOperations.wait",
      update,
    ];
    for (const action of asked) world.simulator.injectFault({ action, kind, times: 2 });
    await node.provision();
    expect((await node.cloud.fence(node.target(), node.job())).verified).toBe(true);
  });

  it("that refills its buckets by the minute is waited for, refusals cost little", async () => {
    const limits = { readsPerMinute: 4, writesPerMinute: 1, minuteMs: 100 };
    await using world = await GkeWorld.open({ limits, secondaryRanges: {} });
    const node = await NodeFixture.start(world);
    await node.provision();
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("gives up on a throttle that does not end, within its time", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world, {}, { retryMs: 100 });
    world.simulator.injectFault({ action: "subnetworks.get", kind: "throttle", times: 1000 });
    await expect(node.provision()).rejects.toThrow(ThrottledError);
  });

  it("does not wait for ever for an answer", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world, {}, { requestMs: 50, retryMs: 120 });
    world.simulator.injectFault({ action: "subnetworks.get", kind: "hang", times: 1000 });
    const failure = node.provision();
    await expect(failure).rejects.toThrow(UnavailableError);
    await expect(failure).rejects.toThrow(/no answer within 50 ms/);
  });

  it("that hangs is left at once on an abort", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "subnetworks.get", kind: "hang", times: 1000 });
    const abort = new AbortController();
    const reason = new Error("enough");
    const failure = node.cloud.provision(node.request, node.job(), { signal: abort.signal });
    const done = expect(failure).rejects.toBe(reason);
    await expect.poll(() => world.simulator.calls["subnetworks.get"], patience).toBe(1);
    abort.abort(reason);
    await done;
  });

  it("that hangs is left at once when the cloud is closed", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "subnetworks.get", kind: "hang", times: 1000 });
    const done = expect(node.provision()).rejects.toThrow("the GKE cloud was closed");
    await expect.poll(() => world.simulator.calls["subnetworks.get"], patience).toBe(1);
    await node.cloud[Symbol.asyncDispose]();
    await node.cloud[Symbol.asyncDispose]();
    await done;
  });

  it("that cannot be reached is named, and the state of instances is unknown (G8)", async () => {
    await using world = await GkeWorld.open();
    const gone = await GkeWorld.open();
    await gone[Symbol.asyncDispose]();
    const node = await NodeFixture.start(world);
    const env = { ...(await world.environment(node.instanceID)), COCOON_NET_GCE_ENDPOINT: gone.api };
    await using cloud = new GkeCloud({ env, timing: { ...impatient, retryMs: 50 } });
    await expect(cloud.provision(node.request, node.job())).rejects.toThrow(`${gone.api}: ECONNREFUSED`);
    expect(await cloud.describeInstance(node.instanceID)).toBe("unknown");
  });
});

describe("lists that show less than there is (G8)", () => {
  it("do not verify a fence", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    world.simulator.injectFault({ action: "instances.aggregatedList", kind: "empty-list", times: 1000 });
    const { verified, evidence } = await node.cloud.fence(node.target(), node.job());
    expect(verified, evidence).toBe(false);
    expect(evidence).toContain("does not show it");
  });

  it("longer than a page are read to their end", async () => {
    await using world = await GkeWorld.open({ limits: { pageSize: 7 } });
    const node = await NodeFixture.start(world);
    for (let n = 0; n < 100; n++) world.addInstance();
    const other = world.addInstance("zz-last");
    world.attachForeign(world.block(0), other);
    const { verified, evidence } = await node.cloud.fence(node.target(), node.job());
    expect(verified).toBe(false);
    expect(evidence).toContain(other);
  });

  it("of another project say nothing of this one's instances", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const elsewhere = node.instanceID.replace("demo-project", "other-project");
    expect(await node.cloud.describeInstance(elsewhere)).toBe("unknown");
    const mars = node.instanceID.replace("us-central1-a", "mars-north1-a");
    expect(await node.cloud.describeInstance(mars)).toBe("unknown");
  });
});

describe("credentials", () => {
  it("of the metadata server are renewed once when they are refused", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    expect(await node.cloud.describeInstance(node.instanceID)).toBe("running");
    world.simulator.revokeTokens();
    expect(await node.cloud.describeInstance(node.instanceID)).toBe("running");
    expect(world.simulator.calls["instances.get"]).toBe(3);
  });

  it.each([
    "compute.subnetworks.update",
    "compute.instances.updateNetworkInterface",
    "compute.instances.get",
  ])("without %s: the error names it", async (permission) => {
    await using world = await GkeWorld.open({ denied: [permission], secondaryRanges: {} });
    const node = await NodeFixture.start(world);
    const failure = node.provision();
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toThrow(permission);
  });

  it.each([
    [["https://www.googleapis.com/auth/devstorage.read_only"], /insufficient authentication scopes/],
    [[], /no Google credentials: no key file/],
  ])("of an instance with the scopes %j are one clear line", async (scopes, message) => {
    await using world = await GkeWorld.open();
    const { id } = world.simulator.addInstance({ name: "poor", scopes });
    const cloud = await world.cloudOn(`demo-project/us-central1-a/poor/${id}`);
    const instance = await cloud.describeSelf();
    const failure = cloud.describeInstance(instance.instanceID);
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toThrow(message);
  });
});
