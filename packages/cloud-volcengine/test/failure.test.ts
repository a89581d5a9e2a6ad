import { RecordedJob, SimulatedCrash } from "@cocoon-net/cloud-testkit";
import { AuthError, ThrottledError, UnavailableError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { VolcengineCloud } from "../src/volcengine-cloud.ts";
import { NodeFixture } from "./node-fixture.ts";
import { impatient, patience, unlimited, VolcengineWorld } from "./volcengine-world.ts";

const writes = (calls: Readonly<Record<string, number>>): number =>
  Object.entries(calls)
    .filter(([action]) => !action.startsWith("Describe"))
    .reduce((sum, [, count]) => sum + count, 0);

describe("lost answers", () => {
  it("of any request of provision make nothing twice and lose nothing", async () => {
    await using model = await VolcengineWorld.open();
    const clean = await (await NodeFixture.start(model)).provision();
    const requests = writes(model.simulator.calls);
    expect(requests).toBe(5);
    for (let after = 0; after < requests; after++) {
      await using world = await VolcengineWorld.open();
      const node = await NodeFixture.start(world);
      world.simulator.injectFault({ kind: "lost-answer", after });
      const network = await node.provision();
      expect(network.addresses).toEqual(clean.addresses);
      expect([...world.resources(world.block(0))].sort()).toEqual([...network.eniIDs].sort());
    }
  });

  it("followed by a crash are made good by the next run", async () => {
    for (let after = 0; after < 5; after++) {
      await using world = await VolcengineWorld.open();
      // No patience: the lost answer is the end of the first run.
      const node = await NodeFixture.start(world, {}, { retryMs: 0, changeMs: 0 });
      const patient = await world.cloudOn(node.instanceID);
      world.simulator.injectFault({ kind: "lost-answer", after });
      const job = node.job();
      // The last one can only be seen by looking, and the first look finds it done.
      await node.provision(job).catch(() => {});
      const network = await patient.provision(node.request, job.restarted());
      expect(network.addresses).toHaveLength(25);
      expect([...world.resources(world.block(0))].sort()).toEqual([...network.eniIDs].sort());
    }
  });

  it("of any request of release leave nothing", async () => {
    for (let after = 0; after < 4; after++) {
      await using world = await VolcengineWorld.open();
      const node = await NodeFixture.start(world);
      const network = await node.provision();
      world.simulator.injectFault({ kind: "lost-answer", after });
      const result = await node.cloud.release(node.target(network), node.job());
      expect(result.remaining).toEqual([]);
      expect(world.resources(world.block(0))).toEqual([]);
    }
  });
});

describe("a list that lags behind", () => {
  // The two lists that a run begins with, of the instance's and of the subnet's ENIs.
  const lag = { action: "DescribeNetworkInterfaces", kind: "empty-list", times: 2 } as const;

  it("after a creation whose answer was lost makes no second ENI, also when another size is asked for", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 20 }, { retryMs: 0 });
    const patient = await world.cloudOn(node.instanceID);
    world.simulator.injectFault({ action: "CreateNetworkInterface", kind: "lost-answer" });
    const job = node.job();
    await expect(node.provision(job)).rejects.toThrow(UnavailableError);
    await expect.poll(() => world.resources(world.block(0)), patience).toHaveLength(1);
    world.simulator.injectFault(lag);
    const network = await patient.provision({ ...node.request, poolSize: 10 }, job.restarted());
    expect(world.resources(world.block(0))).toEqual(network.eniIDs);
    expect(network.addresses).toHaveLength(20);
  });

  it("after a creation that is on record makes no second ENI", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 20 });
    const model = new RecordedJob("model");
    await node.provision(model);
    const created = model.written.findIndex(
      (step) => step.action === "CreateNetworkInterface" && step.phase === "done",
    );
    await node.cloud.release(node.target(), node.job());
    const steps = model.written.slice(0, 2);
    // The subnet is there now: the job starts with the creation of the ENI.
    const job = new RecordedJob("job", { crash: { at: created - steps.length, durable: true } });
    await expect(node.provision(job)).rejects.toThrow(SimulatedCrash);
    world.simulator.injectFault(lag);
    const network = await node.provision(job.restarted());
    expect(world.resources(world.block(0))).toEqual(network.eniIDs);
  });
});

describe("an API in trouble", () => {
  it.each(["throttle", "error5xx"] as const)(
    "%s: every request is asked again until it works",
    async (kind) => {
      await using world = await VolcengineWorld.open();
      const node = await NodeFixture.start(world);
      for (const action of [
        "DescribeInstances",
        "DescribeSubnets",
        "CreateSubnet",
        "CreateNetworkInterface",
      ]) {
        world.simulator.injectFault({ action, kind, times: 2 });
      }
      for (const action of ["AttachNetworkInterface", "DescribeNetworkInterfaces"]) {
        world.simulator.injectFault({ action, kind, times: 2 });
      }
      expect((await node.provision()).addresses).toHaveLength(25);
    },
  );

  it("shares a budget that refuses the excess", async () => {
    const rate = { perSecond: 200, burst: 2 };
    await using world = await VolcengineWorld.open({ limits: { reads: rate, writes: rate } });
    const node = await NodeFixture.start(world, { poolSize: 140 });
    const network = await node.provision();
    expect(network.addresses).toHaveLength(140);
    expect(world.resources(world.block(0))).toHaveLength(7);
  });

  it("gives up on a throttle that does not end, within its time", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, {}, { retryMs: 100 });
    world.simulator.injectFault({ action: "DescribeSubnets", kind: "throttle", times: 1000 });
    await expect(node.provision()).rejects.toThrow(ThrottledError);
  });

  it("does not wait for ever for an answer", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, {}, { requestMs: 50, retryMs: 120 });
    world.simulator.injectFault({ action: "DescribeSubnets", kind: "hang", times: 1000 });
    const failure = node.provision();
    await expect(failure).rejects.toThrow(UnavailableError);
    await expect(failure).rejects.toThrow(/no answer within 50 ms/);
  });

  it("that hangs is left at once on an abort", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ action: "DescribeSubnets", kind: "hang", times: 1000 });
    const abort = new AbortController();
    const reason = new Error("enough");
    const failure = node.cloud.provision(node.request, node.job(), { signal: abort.signal });
    const done = expect(failure).rejects.toBe(reason);
    await expect.poll(() => world.simulator.calls.DescribeSubnets, patience).toBe(1);
    abort.abort(reason);
    await done;
  });

  it("that cannot be reached is named", async () => {
    await using world = await VolcengineWorld.open();
    const gone = await VolcengineWorld.open();
    await gone[Symbol.asyncDispose]();
    const env = {
      ...(await world.environment(world.addInstance())),
      COCOON_NET_VOLCENGINE_ENDPOINT: gone.api,
    };
    await using cloud = new VolcengineCloud(env, {
      timing: { ...impatient, retryMs: 50 },
      budget: unlimited(),
    });
    const node = await NodeFixture.start(world);
    await expect(cloud.provision(node.request, node.job())).rejects.toThrow(`${gone.api}: ECONNREFUSED`);
    expect(await cloud.describeInstance(node.instanceID)).toBe("unknown");
  });
});

describe("refused credentials fail at once", () => {
  it.each([
    ["a wrong secret", { VOLCENGINE_SECRET_ACCESS_KEY: "wrong" }, /SignatureDoesNotMatch/],
    ["an unknown key", { VOLCENGINE_ACCESS_KEY_ID: "AKOTHER" }, /InvalidAccessKey/],
    ["another region", { VOLCENGINE_REGION: "cn-shanghai" }, /InvalidCredential/],
  ])("%s", async (_, change, message) => {
    await using world = await VolcengineWorld.open();
    const env = { ...(await world.environment(world.addInstance())), ...change };
    await using cloud = new VolcengineCloud(env, { timing: impatient, budget: unlimited() });
    const failure = cloud.describeInstance("i-any");
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toThrow(message);
    expect(world.simulator.calls.DescribeInstances).toBe(1);
  });

  it("a clock that is wrong", async () => {
    const clock = {
      now: () => Date.now() + 3_600_000,
      after: (ms: number, run: () => void) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    };
    await using world = await VolcengineWorld.open({ clock });
    const cloud = await world.cloudOn(world.addInstance());
    const failure = cloud.describeInstance("i-any");
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toMatchObject({ hint: "set this machine's clock" });
  });

  it("a session token is sent, and must be right", async () => {
    const key = { accessKeyID: "AKTEST", secretAccessKey: "SKTEST", sessionToken: "token" };
    await using world = await VolcengineWorld.open({ accessKeys: [key] });
    const instance = world.addInstance();
    const env = await world.environment(instance);
    await using right = new VolcengineCloud(
      { ...env, VOLCENGINE_SESSION_TOKEN: "token" },
      { timing: impatient },
    );
    expect(await right.describeInstance(instance)).toBe("running");
    await using wrong = new VolcengineCloud(env, { timing: impatient, budget: unlimited() });
    await expect(wrong.describeInstance(instance)).rejects.toThrow(/InvalidSecretToken/);
  });
});

describe("lists that show less than there is (G8)", () => {
  // Catalogue 16. Guard: packages/cloud-volcengine/src/node-enis.ts, doubtAbout: the subnet's own count is a second
  // witness.
  it("an empty answer of the ENI list does not verify a fence", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    world.simulator.injectFault({ action: "DescribeNetworkInterfaces", kind: "empty-list", times: 1000 });
    const { verified, evidence } = await node.cloud.fence(node.target(network), node.job());
    expect(verified, evidence).toBe(false);
    expect(evidence).toContain("counts 27 used addresses");
  });

  // Catalogue 10. Guard: packages/cloud-volcengine/src/release.ts, release: what is not listed counts as gone only
  // where nothing casts doubt on the list.
  it("an empty answer of the ENI list releases nothing", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    world.simulator.injectFault({ action: "DescribeNetworkInterfaces", kind: "empty-list", times: 1000 });
    const result = await node.cloud.release(node.target(network), node.job());
    expect(result.released).toEqual([]);
    expect(result.remaining.map(({ id }) => id)).toEqual(network.eniIDs);
  });

  it("an access key of another account neither verifies nor releases", async () => {
    await using world = await VolcengineWorld.open();
    await using other = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { subnet: "172.20.77.0/24" });
    const network = await node.provision();
    const stranger = await other.cloudOn(other.addInstance());
    const target = { ...node.target(network), instanceID: "i-elsewhere", subnetID: "subnet-elsewhere" };
    expect((await stranger.fence(target, new RecordedJob("f"))).verified).toBe(false);
    const elsewhere = { ...target, eniIDs: ["eni-elsewhere"] };
    const result = await stranger.release(elsewhere, new RecordedJob("r"));
    expect(result.released).toEqual([]);
    expect(result.remaining).toMatchObject([{ id: "eni-elsewhere" }]);
  });

  it("a list longer than a page is read to its end", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    const subnetID = world.subnetID(world.block(0));
    for (let n = 0; n < 120; n++) world.simulator.addEni({ subnetID, addresses: [`172.20.0.${n + 100}`] });
    const other = world.addInstance();
    world.simulator.addEni({ subnetID, instanceID: other, addresses: ["172.20.0.250"] });
    world.deleteInstance(node.instanceID);
    const { verified, evidence } = await node.cloud.fence(node.target(), node.job());
    expect(verified).toBe(false);
    expect(evidence).toContain(other);
  });
});

it("a node that never had a subnet is fenced once its instance is gone", async () => {
  await using world = await VolcengineWorld.open();
  const node = await NodeFixture.start(world);
  expect((await node.cloud.fence(node.target(), node.job())).verified).toBe(false);
  world.deleteInstance(node.instanceID);
  await expect.poll(() => node.cloud.describeInstance(node.instanceID), patience).toBe("gone");
  expect((await node.cloud.fence(node.target(), node.job())).verified).toBe(true);
});
