import {
  cancelDrain,
  pauseReclaim,
  type ReclaimPolicy,
  readPause,
  requestDrain,
  requestReclaim,
  resumeReclaim,
} from "@cocoon-net/controller";
import { expect, test } from "vitest";
import { changesCluster } from "./interposed-store.ts";
import { TestCluster, type TestNode } from "./test-cluster.ts";

const now = (cluster: TestCluster) => ({ now: () => cluster.date() });

async function isFree(cluster: TestCluster, node = "n1"): Promise<boolean> {
  return (await cluster.history(node)).includes("subnet-freed");
}

/** What an agent does that sees itself draining: it stops granting and says so. */
async function stopGranting(node: TestNode, cluster: TestCluster): Promise<void> {
  await node.registration.update({ grantsStopped: cluster.date().toISOString() });
}

// Guards: `notPaused` in the record of each request, in the quarantine, the deletion of leases and the freeing.
test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "a pause after change %i of a reclaim stops it there, and it goes on when that ends",
  async (n) => {
    await using cluster = await TestCluster.open();
    const node = await cluster.join("n1");
    const a = cluster.start("a");
    let writes = 0;
    let paused: Promise<void> | undefined;
    // From the first request to the cloud on; whatever the leader has seen of the pause, its next write has not.
    a.store.intercept = async (request, forward) => {
      const result = await forward();
      if (cluster.vpc.calls.includes("a fence n1") && changesCluster(request) && ++writes === n) {
        paused = pauseReclaim(cluster.store, "maintenance", now(cluster));
        await paused;
      }
      return result;
    };
    await cluster.die(node);
    await cluster.until("it is paused", () => paused !== undefined);
    await cluster.pass(2_000);
    const frozen = await cluster.records();
    const mutations = [...cluster.vpc.mutations];
    await cluster.pass(600_000);
    const still = await cluster.records();
    for (const key of Object.keys(frozen))
      if (!key.startsWith("intents/")) expect(still[key]).toEqual(frozen[key]);
    expect(Object.keys(still)).toEqual(Object.keys(frozen));
    expect(cluster.vpc.mutations).toEqual(mutations);
    expect(await readPause(cluster.store)).toMatchObject({ reason: "maintenance" });
    expect(await resumeReclaim(cluster.store, now(cluster))).toBe(true);
    expect(await resumeReclaim(cluster.store, now(cluster))).toBe(false);
    await cluster.until("it is free", () => isFree(cluster));
  },
);

test("while paused nothing begins", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  await pauseReclaim(cluster.store, "maintenance", now(cluster));
  await cluster.die(node);
  await cluster.pass(600_000);
  expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect"]);
  expect(cluster.vpc.calls).toEqual([]);
});

test.each<[ReclaimPolicy, boolean]>([
  ["fence", true],
  ["instance-gone", false],
  ["manual", false],
])("a silent node whose instance runs, under the policy %s", async (policy, reclaimed) => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a", { policy });
  await cluster.pass(1_000);
  await cluster.silence(node);
  await cluster.pass(300_000);
  expect(await isFree(cluster)).toBe(reclaimed);
  expect(cluster.vpc.mutations.length > 0).toBe(reclaimed);
  const why = a.events.find(({ type }) => type === "reclaim-started")?.reason;
  expect(why).toBe(reclaimed ? "fence-policy" : undefined);
});

test("the policy may differ from node to node, and one that throws takes nothing", async () => {
  await using cluster = await TestCluster.open();
  const nodes = [await cluster.join("n1"), await cluster.join("n2"), await cluster.join("n3")];
  const a = cluster.start("a", {
    breakerNodes: 9,
    policy: ({ node }) => {
      if (node === "n3") throw new Error("no rule for n3");
      return node === "n1" ? "fence" : "manual";
    },
  });
  await cluster.pass(1_000);
  for (const node of nodes) await cluster.silence(node);
  await cluster.pass(300_000);
  expect([await isFree(cluster, "n1"), await isFree(cluster, "n2"), await isFree(cluster, "n3")]).toEqual([
    true,
    false,
    false,
  ]);
  expect(a.events.some(({ message }) => message.includes("no rule for n3"))).toBe(true);
});

// Guard: Detection's firstHeardWithinMs.
test("a node that registers and is not alive yet is being set up, not suspect", async () => {
  await using cluster = await TestCluster.open();
  cluster.start("a");
  await cluster.pass(1_000);
  const registration = await cluster.registry.register({ node: "n1", uid: "i-n1", agentVersion: "1.0.0" });
  // As `init` does.
  await registration.update({ pool: { size: 140, leased: 0, free: 140 } });
  await cluster.pass(590_000);
  expect(await cluster.history("n1")).toEqual(["node-registered"]);
  const session = await cluster.store.session(10_000);
  await registration.announce(session);
  await cluster.pass(1_000);
  await session[Symbol.asyncDispose]();
  await cluster.until(
    "it is suspect",
    async () => (await cluster.history("n1")).includes("node-suspect"),
    5_000,
  );
  const never = await cluster.registry.register({ node: "n2", uid: "i-n2", agentVersion: "1.0.0" });
  await cluster.pass(599_000);
  expect(await cluster.history(never.node)).toEqual(["node-registered"]);
  await cluster.until(
    "it is suspect",
    async () => (await cluster.history("n2")).includes("node-suspect"),
    5_000,
  );
});

test("an operator's reclaim fences a silent node whose instance runs", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", { policy: "manual" });
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("node n1 is alive");
  await cluster.silence(node);
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("not suspect yet");
  await cluster.until("it is suspect", async () => (await cluster.history("n1")).includes("node-suspect"));
  const { intent, cannotExclude } = await requestReclaim(cluster.store, "n1", {}, now(cluster));
  expect(cannotExclude).toEqual([]);
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("being reclaimed already (fencing)");
  await cluster.until("it is free", () => isFree(cluster));
  expect(cluster.vpc.mutations).toEqual([
    "a detach eni-i-n1-0",
    "a detach eni-i-n1-1",
    "a delete eni-i-n1-0",
    "a delete eni-i-n1-1",
  ]);
  expect((await cluster.store.get(`intents/${intent}`)).entry).toBeUndefined();
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("owns no subnet");
});

test("a reclaim that an operator asked for is called off by the node that speaks", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", { policy: "manual" });
  await cluster.silence(node);
  await cluster.until("it is suspect", async () => (await cluster.history("n1")).includes("node-suspect"));
  await pauseReclaim(cluster.store, "to have the time", now(cluster));
  await requestReclaim(cluster.store, "n1", {}, now(cluster));
  await cluster.pass(60_000);
  await cluster.speak(node);
  await cluster.until("it is back", async () => (await cluster.history("n1")).includes("node-returned"));
  expect((await cluster.records())["nodes/n1"]).toMatchObject({ status: "ready" });
});

// Guard: isAskedFor in Jobs.reclaim (G13 holds back what nobody asked for).
test("mass silence does not hold back what an operator asks for", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 4; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a");
  await cluster.pass(1_000);
  for (const node of nodes) await cluster.die(node);
  await cluster.until("it pauses", () => a.events.some(({ type }) => type === "reclaim-paused"));
  await requestReclaim(cluster.store, "n1", {}, now(cluster));
  await cluster.until("n1 is free", () => isFree(cluster));
  expect(await isFree(cluster, "n2")).toBe(false);
});

// Guard: unaskedReclaim, and isAskedFor of the intent as it is now in Jobs.reclaim. The dead are the mass silence, which
// therefore never ends by itself.
test("an operator lets a reclaim through that had begun when mass silence stopped it", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 4; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a", { retryMaxMs: 2_000 });
  await cluster.pass(1_000);
  const [first, second, third] = nodes;
  cluster.vpc.stale = true;
  for (const node of [first, second]) {
    if (node) await cluster.die(node);
    const started = () =>
      a.events.some(({ type, node: name }) => type === "reclaim-started" && name === node?.name);
    await cluster.until("its fence has begun", started);
  }
  if (third) await cluster.die(third);
  await cluster.until("it pauses", () => a.events.some(({ type }) => type === "reclaim-paused"));
  cluster.vpc.stale = false;
  await cluster.pass(600_000);
  expect(await isFree(cluster)).toBe(false);
  const asked = await requestReclaim(cluster.store, "n1", {}, now(cluster));
  expect((await cluster.store.get(`intents/${asked.intent}`)).entry).toBeDefined();
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("being reclaimed already (fencing)");
  await cluster.until("n1 is free", () => isFree(cluster));
  // Two are left, which are no mass.
  await cluster.until(
    "all are free",
    async () => (await isFree(cluster, "n2")) && (await isFree(cluster, "n3")),
  );
});

// Guard: unaskedReclaim.
test("an operator forces a reclaim that no fence verifies", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a", { retryMaxMs: 2_000 });
  cluster.vpc.stale = true;
  await cluster.die(node);
  await cluster.until("the fence is not verified", () =>
    a.events.some(({ type }) => type === "reclaim-retry"),
  );
  const { cannotExclude } = await requestReclaim(cluster.store, "n1", { force: true }, now(cluster));
  expect(cannotExclude).toHaveLength(3);
  await cluster.until("it is in quarantine", async () =>
    (await cluster.history("n1")).includes("subnet-quarantined"),
  );
  expect((await cluster.records())["quarantine/10.0.0.0/24"]).toMatchObject({ fenced: false });
});

// Guard: Reclaim.#newQuarantine (G6). Leases of 24 min, and one that was published to end 30 min after its record.
test.each([
  { published: undefined, silentMs: 0, minutes: 24 },
  { published: 30, silentMs: 0, minutes: 30 },
  { published: 3, silentMs: 0, minutes: 24 },
  { published: undefined, silentMs: 10 * 60_000, minutes: 14 },
  { published: undefined, silentMs: 100 * 60_000, minutes: 0 },
])(
  "a forced reclaim that no fence verified waits for the leases: $published min published, silent for $silentMs ms",
  async ({ published, silentMs, minutes }) => {
    await using cluster = await TestCluster.open({ leaseMs: 24 * 60_000 });
    const node = await cluster.join("n1");
    cluster.start("a", { policy: "manual", tickMs: 3_000, proveEveryMs: 15_000 });
    if (published !== undefined) {
      const maxLeaseEnd = new Date(cluster.date().getTime() + published * 60_000).toISOString();
      await node.registration.update({ maxLeaseEnd });
    }
    await cluster.pass(1_000);
    await cluster.silence(node);
    await cluster.pass(Math.max(silentMs, 4_000));
    cluster.vpc.stale = true;
    const { cannotExclude } = await requestReclaim(cluster.store, "n1", { force: true }, now(cluster));
    expect(cannotExclude).toHaveLength(3);
    const before = cluster.clock.now();
    await cluster.until(
      "it is in quarantine",
      async () => (await cluster.records())["quarantine/10.0.0.0/24"] !== undefined,
    );
    expect((await cluster.records())["quarantine/10.0.0.0/24"]).toMatchObject({ fenced: false });
    await cluster.until("it is free", () => isFree(cluster), 40 * 60_000, 15_000);
    const waited = (cluster.clock.now() - before) / 60_000;
    expect(waited).toBeGreaterThan(minutes);
    expect(waited).toBeLessThan(minutes + 3);
  },
);

test("a forced reclaim whose fence is verified is an ordinary one", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", { policy: "manual" });
  await cluster.silence(node);
  await requestReclaim(cluster.store, "n1", { force: true }, now(cluster));
  await cluster.until("it is free", () => isFree(cluster), 60_000);
});

test("a forced reclaim does without a cloud that knows the node", async () => {
  await using cluster = await TestCluster.open({ leaseMs: 24 * 60_000 });
  const node = await cluster.join("n1", "i-n1", { instanceID: undefined });
  cluster.vpc.nics.clear();
  cluster.start("a", { tickMs: 3_000, proveEveryMs: 15_000 });
  await cluster.silence(node);
  await cluster.until("it is suspect", async () => (await cluster.history("n1")).includes("node-suspect"));
  await expect(requestReclaim(cluster.store, "n1")).rejects.toThrow("no instance id");
  await requestReclaim(cluster.store, "n1", { force: true }, now(cluster));
  await cluster.until("it is free", () => isFree(cluster), 28 * 60_000, 15_000);
});

test("a draining node keeps its guests, and leaves when the last one has gone", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await requestDrain(cluster.store, "n1", now(cluster));
  await requestDrain(cluster.store, "n1", now(cluster));
  await cluster.pass(60_000);
  expect(a.events.at(-1)).toMatchObject({ type: "drain-waiting", reason: "agent-has-not-stopped" });
  await stopGranting(node, cluster);
  await cluster.pass(600_000);
  expect(a.events.at(-1)).toMatchObject({
    type: "drain-waiting",
    message: "n1 is to leave; it has 2 leases left: 10.0.0.2, 10.0.0.3",
  });
  expect(cluster.vpc.mutations).toEqual([]);
  await node.registration.mirror([["10.0.0.2", undefined]]);
  await cluster.pass(60_000);
  expect(cluster.vpc.mutations).toEqual([]);
  await node.registration.mirror([["10.0.0.3", undefined]]);
  await cluster.until("it is free", () => isFree(cluster));
  expect(await cluster.history("n1")).toEqual([
    "node-registered",
    "drain-requested",
    "drain-waiting",
    "drain-waiting",
    "reclaim-started",
    "subnet-quarantined",
    "subnet-freed",
  ]);
  expect((await cluster.records())["nodes/n1"]).toMatchObject({ status: "left" });
  await expect(node.registration.verify()).rejects.toMatchObject({ code: "fenced" });
});

// Guard: drainState asks for grantsStopped before it believes that there are no leases (G8).
test("a draining node without leases stays until its agent has said that it grants nothing", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  await node.registration.mirror([
    ["10.0.0.2", undefined],
    ["10.0.0.3", undefined],
  ]);
  cluster.start("a");
  await requestDrain(cluster.store, "n1", now(cluster));
  await cluster.pass(600_000);
  expect(cluster.vpc.mutations).toEqual([]);
  expect(await cancelDrain(cluster.store, "n1", now(cluster))).toBe(true);
  expect(await cancelDrain(cluster.store, "n1", now(cluster))).toBe(false);
  await stopGranting(node, cluster);
  await cluster.pass(600_000);
  expect((await cluster.records())["nodes/n1"]).toMatchObject({ status: "ready" });
  await requestDrain(cluster.store, "n1", now(cluster));
  // What it said before is forgotten.
  expect((await cluster.records())["nodes/n1"]).not.toHaveProperty("grantsStopped");
});

test("a draining node that dies is reclaimed by the policy, and one that returns goes on draining", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  await requestDrain(cluster.store, "n1", now(cluster));
  let looks = 0;
  cluster.vpc.before = async (call) => {
    // Just before the fence it speaks again.
    if (call.includes("describe") && ++looks === 3) await cluster.speak(node);
  };
  await cluster.die(node);
  await cluster.until("it is back", async () => (await cluster.history("n1")).includes("node-returned"));
  expect((await cluster.records())["nodes/n1"]).toMatchObject({ status: "draining" });
  cluster.vpc.before = () => {};
  await cluster.silence(node);
  await cluster.until("it is free", () => isFree(cluster));
});

test("a node drains by itself and takes that back, but not what an operator has asked for as well", async () => {
  await using cluster = await TestCluster.open();
  const { registration } = await cluster.join("n1");
  const record = async () => (await cluster.records())["nodes/n1"];
  await registration.depart(undefined);
  await registration.depart("the machine ends");
  await registration.depart("the machine ends");
  await registration.update({ grantsStopped: cluster.date().toISOString() });
  expect(await record()).toMatchObject({ status: "draining", departs: "the machine ends" });
  await registration.depart(undefined);
  expect(await record()).toMatchObject({ status: "ready" });
  expect(Object.keys((await record()) ?? {})).not.toContain("grantsStopped");
  expect(await cluster.history("n1")).toEqual(["node-registered", "drain-requested", "drain-cancelled"]);

  await registration.depart("the machine ends");
  await requestDrain(cluster.store, "n1", now(cluster));
  await registration.depart(undefined);
  expect(await record()).toMatchObject({ status: "draining" });
  expect(await cancelDrain(cluster.store, "n1", now(cluster))).toBe(true);
});
