import { encode } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { leftRecord, TestCluster } from "./test-cluster.ts";

const reclaimed = ["node-suspect", "reclaim-started", "subnet-quarantined", "subnet-freed"];

test("a node whose instance is gone gives everything back, and nothing else changes", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  await cluster.join("n2");
  const before = await cluster.records();
  // A field of a newer version, which a rewrite must keep.
  const record = { ...Object(before["nodes/n1"]), rack: "r7" };
  await cluster.store.txn({ then: [{ put: "nodes/n1", value: encode(record) }] });
  const a = cluster.start("a");
  await cluster.pass(2_000);

  await cluster.die(dead);
  const silentAt = cluster.clock.now();
  await cluster.until("n1's block is free", () => a.events.some((event) => event.type === "subnet-freed"));

  const expected = new Map(Object.entries(before));
  expected.set("nodes/n1", { ...leftRecord("n1", "10.0.0.0/24", dead.registration.epoch), rack: "r7" });
  for (const key of ["subnets/n1", "slots/10.0.0.0/24", "alive/n1", "pool/10.0.0.2", "pool/10.0.0.3"]) {
    expected.delete(key);
  }
  expect(await cluster.records()).toEqual(Object.fromEntries(expected));
  expect([...cluster.vpc.nics.keys()]).toEqual(["eni-i-n2-0", "eni-i-n2-1"]);
  expect(await cluster.history("n1")).toEqual(["node-registered", ...reclaimed]);
  expect(a.events.map((event) => event.type)).toEqual(["leader-elected", ...reclaimed]);
  // 20 s of silence, two looks 5 s apart, 30 s of quarantine.
  expect(cluster.clock.now() - silentAt).toBeGreaterThanOrEqual(55_000);
  expect(cluster.clock.now() - silentAt).toBeLessThan(60_000);

  const next = await cluster.join("n3");
  expect(next.registration.subnet).toBe("10.0.0.0/24");
});

test("a stopped instance is reclaimed too", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.instances.set("i-n1", "stopped");
  await cluster.silence(node);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
});

test("a node that is silent for a while becomes suspect and returns at no cost", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const before = await cluster.records();
  cluster.start("a");
  await cluster.pass(1_000);
  await cluster.silence(node);
  await cluster.pass(2_000);
  expect(await cluster.history("n1")).toEqual(["node-registered"]);
  await cluster.until("it is suspect", async () => (await cluster.history("n1")).includes("node-suspect"));
  await cluster.speak(node);
  await cluster.until("it is back", async () => (await cluster.history("n1")).includes("node-returned"));
  const after = await cluster.records();
  expect({ ...after, "alive/n1": 0 }).toEqual({ ...before, "alive/n1": 0 });
  expect(cluster.vpc.calls).toEqual([]);
});

// Guard: Detection asks the cloud and takes only `gone` and `stopped` for an answer (G8).
test.each(["running", "unknown", "throws"] as const)(
  "nothing is reclaimed while the cloud says of the instance: %s",
  async (answer) => {
    await using cluster = await TestCluster.open();
    const node = await cluster.join("n1");
    cluster.start("a");
    cluster.vpc.instances.set("i-n1", answer);
    await cluster.silence(node);
    await cluster.pass(3_600_000);
    const told = answer === "running" ? ["instance-running"] : [];
    expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect", ...told]);
    expect(cluster.vpc.mutations).toEqual([]);
    // Asked again and again, with growing pauses.
    expect(cluster.vpc.calls.length).toBeGreaterThan(100);
    expect(cluster.vpc.calls.length).toBeLessThan(1_000);
  },
);

// Guard: the looks in Detection.answered are counted anew after each answer of another kind.
test("one look that says gone is not enough when the next says running", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  let looks = 0;
  cluster.vpc.before = (call) => {
    if (call.includes("describe")) cluster.vpc.instances.set("i-n1", looks++ % 2 === 0 ? "gone" : "running");
  };
  await cluster.silence(node);
  await cluster.pass(600_000);
  expect(looks).toBeGreaterThan(10);
  expect(await cluster.history("n1")).not.toContain("reclaim-started");
});

// Guard: the third look in Reclaim, just before the first change (G8).
test("an instance that runs again just before the fence is left alone", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(node);
  let looks = 0;
  cluster.vpc.before = (call) => {
    if (call.includes("describe") && ++looks >= 3) cluster.vpc.instances.set("i-n1", "running");
  };
  await cluster.until("the reclaim is called off", () =>
    a.events.some(({ type }) => type === "instance-running"),
  );
  await cluster.pass(600_000);
  expect(await cluster.history("n1")).not.toContain("subnet-quarantined");
  expect((await cluster.records())["nodes/n1"]).toMatchObject({ status: "suspect" });
  expect(cluster.vpc.mutations).toEqual([]);
});

test("a node without an instance id is left to the operator", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1", "i-n1", { instanceID: undefined });
  cluster.start("a");
  await cluster.die(node);
  await cluster.pass(3_600_000);
  expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect", "reclaim-manual"]);
  expect(cluster.vpc.calls).toEqual([]);
});

// Catalogue 16. Guard: packages/controller/src/reclaim-fence.ts, fence: without FenceResult.verified nothing goes on.
test("a block whose fence is not verified stays the node's, and the fence is tried again", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.stale = true;
  await cluster.die(node);
  await cluster.pass(300_000);
  expect(await cluster.records()).toMatchObject({
    "subnets/n1": "10.0.0.0/24",
    "nodes/n1": { status: "fencing" },
  });
  expect(await cluster.history("n1")).toContain("reclaim-retry");
  cluster.vpc.stale = false;
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
});

test("a block stays in quarantine until the cloud has let go of everything", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.stuck.add("eni-i-n1-1");
  await cluster.die(node);
  await cluster.pass(600_000);
  const records = await cluster.records();
  expect(records["slots/10.0.0.0/24"]).toEqual({ node: "", uid: "i-n1" });
  const intent = Object.entries(records).find(([key]) => key.startsWith("intents/"))?.[1];
  expect(intent).toMatchObject({
    step: "releasing",
    lastError: expect.stringContaining("eni-i-n1-1 (in use)"),
  });
  // Told at the first, second, fourth … failure, not at each.
  const told = (await cluster.history("n1")).filter((type) => type === "reclaim-retry").length;
  expect(told).toBeLessThan(10);
  expect(Object(intent).attempts).toBeGreaterThan(60);
  cluster.vpc.stuck.clear();
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
});

// The same name, another instance. Guard: Reclaim carries uid and resources in the intent, and #free compares the record.
test("another instance that takes the dead node's name is not harmed", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(dead);
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  const heir = await cluster.join("n1", "i-heir");
  expect(heir.registration.subnet).toBe("10.0.1.0/24");
  const mine = Object.entries(await cluster.records()).filter(
    ([key]) => !/quarantine|intents|10\.0\.0\./.test(key),
  );
  await cluster.until("the old block is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  await cluster.pass(60_000);
  expect(await cluster.records()).toEqual(Object.fromEntries(mine));
  expect([...cluster.vpc.nics.keys()]).toEqual(["eni-i-heir-0", "eni-i-heir-1"]);
  await heir.registration.verify();
});

// Guard: deleteLeases takes only those of the intent's node (G4).
test("a lease in the block that belongs to another node stays", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  cluster.start("a");
  const moved = { node: "n9", mac: "02:00:00:00:00:09", expiry: "2026-01-02T00:00:00.000Z", seq: 1 };
  await cluster.store.txn({ then: [{ put: "pool/10.0.0.9", value: encode(moved) }] });
  await cluster.die(dead);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  const leases = Object.keys(await cluster.records()).filter((key) => key.startsWith("pool/"));
  expect(leases).toEqual(["pool/10.0.0.9"]);
});

test("more leases than one transaction can hold are all deleted", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  await cluster.lease(
    dead.registration,
    Array.from({ length: 250 }, (_, index) => index + 2),
  );
  cluster.start("a");
  await cluster.die(dead);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect(Object.keys(await cluster.records()).filter((key) => key.startsWith("pool/"))).toEqual([]);
});

test("a node that gives its block back while it is being fenced ends the reclaim", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  cluster.vpc.before = async (call) => {
    if (call === "a fence n1") await node.registration.leave();
  };
  await cluster.die(node);
  for (const id of ["eni-i-n1-0", "eni-i-n1-1"]) cluster.vpc.nics.delete(id);
  await cluster.until("it has ended", () => a.events.some(({ type }) => type === "reclaim-ended"));
  expect(Object.keys(await cluster.records())).toEqual(["config", "nodes/n1"]);
});

// Catalogue 9. Guard: packages/controller/src/reclaim-release.ts, free: the record changes only where it has the UID
// of the intent.
test("the record of another instance that took the name and left again is not touched", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(dead);
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  const heir = await cluster.join("n1", "i-heir");
  for (const id of ["eni-i-heir-0", "eni-i-heir-1"]) cluster.vpc.nics.delete(id);
  await heir.registration.leave();
  const record = (await cluster.records())["nodes/n1"];
  await cluster.until("the old block is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  expect(await cluster.records()).toMatchObject({ "nodes/n1": Object(record) });
  expect(record).toMatchObject({ uid: "i-heir", eniIDs: ["eni-i-heir-0", "eni-i-heir-1"] });
});

test("a block of several slots is taken back and freed as a whole", async () => {
  await using cluster = await TestCluster.open();
  const registration = await cluster.registry.register({
    node: "n1",
    uid: "i-n1",
    instanceID: "i-n1",
    subnet: "10.0.4.0/22",
    agentVersion: "1.0.0",
  });
  const lease = { node: "n1", mac: "02:00:00:00:00:01", expiry: "2026-01-02T00:00:00.000Z", seq: 1 };
  await registration.update({ pool: { size: 1_000, leased: 2, free: 998 } });
  await registration.mirror(["10.0.4.5", "10.0.7.250"].map((address) => [address, lease]));
  const a = cluster.start("a");
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  const held = Object.entries(await cluster.records()).filter(([key]) => key.startsWith("slots/"));
  expect(held.map(([key]) => key)).toEqual(["4", "5", "6", "7"].map((third) => `slots/10.0.${third}.0/24`));
  await cluster.until("it is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  expect(Object.keys(await cluster.records())).toEqual(["config", "nodes/n1"]);
});

// An exhausted subnet does not block its own clean-up. Guard: a reclaim needs no free slot.
test("a cluster without a free block reclaims, and the next node gets what that frees", async () => {
  await using cluster = await TestCluster.open({ parentCIDR: "10.0.0.0/23" });
  const dead = await cluster.join("n1");
  await cluster.join("n2");
  const a = cluster.start("a");
  await expect(cluster.join("n3")).rejects.toMatchObject({ code: "exhausted" });
  await cluster.die(dead);
  await cluster.until("it is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  expect((await cluster.join("n3")).registration.subnet).toBe(dead.registration.subnet);
});
