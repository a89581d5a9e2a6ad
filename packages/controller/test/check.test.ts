import {
  type CheckReport,
  checkCluster,
  pauseReclaim,
  planRepair,
  resumeReclaim,
  runRepair,
} from "@cocoon-net/controller";
import { encode } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { ScriptedCloud } from "./scripted-cloud.ts";
import { startOfTime, TestCluster } from "./test-cluster.ts";

function look(cluster: TestCluster, more: { intentMaxMs?: number } = {}): Promise<CheckReport> {
  const cloud = new ScriptedCloud(cluster.vpc, "operator");
  return checkCluster({ store: cluster.store, cloudFor: () => cloud, now: () => cluster.date(), ...more });
}

async function codes(cluster: TestCluster): Promise<string[]> {
  return (await look(cluster)).findings.map(({ code, subject }) => `${code} ${subject}`);
}

async function put(cluster: TestCluster, key: string, value: unknown): Promise<void> {
  await cluster.store.txn({ then: [{ put: key, value: encode(value) }] });
}

async function remove(cluster: TestCluster, key: string): Promise<void> {
  await cluster.store.txn({ then: [{ delete: key }] });
}

const time = new Date(startOfTime).toISOString();
const lease = { node: "n9", mac: "02:00:00:00:00:09", expiry: time, seq: 1 };
const quarantine = { node: "n9", uid: "i-9", from: time, until: time, reason: "", fenced: true };

test("a cluster that is in order, through a reclaim too, has no findings", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  await cluster.join("n2");
  const a = cluster.start("a");
  const seen: string[] = [];
  await cluster.die(node);
  await cluster.until("n1 is free", async () => {
    seen.push(...(await codes(cluster)));
    return a.events.some(({ type }) => type === "subnet-freed");
  });
  expect(seen).toEqual([]);
  expect(await look(cluster)).toMatchObject({ unchecked: [], looked: { nodes: 1, leases: 2, resources: 2 } });
});

/** What is broken, what finds it, and whether repair mends it. */
const damages: readonly [
  name: string,
  damage: (cluster: TestCluster) => Promise<void> | void,
  found: readonly string[],
  mended: boolean,
][] = [
  [
    "a record that is no JSON",
    (c) => c.store.txn({ then: [{ put: "pool/10.0.0.9", value: "{" }] }).then(() => {}),
    ["record-unreadable pool/10.0.0.9"],
    false,
  ],
  [
    "two subnets that overlap",
    (c) => put(c, "subnets/n8", "10.0.0.128/25"),
    ["subnets-overlap subnets/n8", "owner-without-record subnets/n8", "slot-of-another slots/10.0.0.0/24"],
    false,
  ],
  ["a slot that is missing", (c) => remove(c, "slots/10.0.0.0/24"), ["slot-missing slots/10.0.0.0/24"], true],
  [
    "a slot that nobody owns",
    (c) => put(c, "slots/10.0.9.0/24", { node: "n9", uid: "i-9" }),
    ["slot-without-owner slots/10.0.9.0/24"],
    true,
  ],
  [
    "a slot beside what its node owns",
    (c) => put(c, "slots/10.0.9.0/24", { node: "n1", uid: "i-n1" }),
    ["slot-without-owner slots/10.0.9.0/24"],
    true,
  ],
  [
    "a slot that rests without a quarantine",
    (c) => put(c, "slots/10.0.9.0/24", { node: "", uid: "i-9" }),
    ["slot-without-quarantine slots/10.0.9.0/24"],
    true,
  ],
  [
    "a quarantine without a job",
    async (c) => {
      await put(c, "slots/10.0.9.0/24", { node: "", uid: "i-9" });
      await put(c, "quarantine/10.0.9.0/24", quarantine);
    },
    ["quarantine-without-intent quarantine/10.0.9.0/24"],
    true,
  ],
  [
    "a lease in nobody's subnet",
    (c) => put(c, "pool/10.0.77.7", lease),
    ["lease-outside-subnets pool/10.0.77.7"],
    true,
  ],
  [
    "a lease of another node",
    (c) => put(c, "pool/10.0.0.7", { ...lease, node: "n2" }),
    ["lease-of-another pool/10.0.0.7", "lease-not-delivered pool/10.0.0.7"],
    false,
  ],
  [
    "an interface that nobody knows",
    (c) => {
      c.vpc.nics.set("eni-lost", { subnet: "10.0.77.0/24", instanceID: undefined });
    },
    ["resource-leaked scripted:eni-lost"],
    true,
  ],
  [
    "an interface that a stranger has",
    (c) => {
      c.vpc.nics.set("eni-lost", { subnet: "10.0.77.0/24", instanceID: "i-stranger" });
    },
    ["address-without-owner scripted:eni-lost 10.0.77.0/24"],
    false,
  ],
  [
    "an address that another instance holds",
    (c) => {
      c.vpc.holders.set("10.0.0.2", "i-n2");
    },
    ["address-held-by-another scripted:moved-10.0.0.2 10.0.0.2"],
    false,
  ],
  [
    "a lease that the cloud does not deliver",
    (c) => {
      for (const nic of c.vpc.nics.values()) if (nic.subnet === "10.0.1.0/24") nic.instanceID = undefined;
    },
    ["lease-not-delivered pool/10.0.1.2", "lease-not-delivered pool/10.0.1.3"],
    false,
  ],
];

// Guards: each rule of checkStore and checkClouds; Repair.
test.each(damages)("%s", async (_name, damage, found, mended) => {
  await using cluster = await TestCluster.open({ damaged: true, leaseMs: 600_000 });
  await cluster.join("n1");
  await cluster.join("n2");
  await damage(cluster);
  const first = await look(cluster);
  expect(await codes(cluster)).toEqual(found);
  for (const finding of first.findings) {
    expect(finding).toMatchObject({
      guarantee: expect.stringMatching(/^G\d+$/),
      meaning: expect.any(String),
      mending: expect.any(String),
    });
    expect(JSON.parse(encode(finding))).toEqual(finding);
  }
  const plan = planRepair(first, await look(cluster));
  expect(plan.actions.length > 0).toBe(mended);
  if (!mended) return;
  // As the pools of the two are, or are to be.
  cluster.start("a", { tickMs: 3_000, proveEveryMs: 15_000 });
  const repairing = runRepair(cluster.store, plan, { now: () => cluster.date() });
  await cluster.until("it is mended", async () => (await look(cluster)).findings.length === 0, 60_000);
  await cluster.pass(1_000);
  expect((await repairing).repaired.map(({ message }) => message)).toHaveLength(1);
  await cluster.until(
    "the block is free",
    async () => Object.keys(await cluster.records()).every((key) => !/10\.0\.9\.|intents/.test(key)),
    3_600_000,
    15_000,
  );
  expect(await codes(cluster)).toEqual([]);
});

test("a node that is being fenced without a job becomes suspect again, and its reclaim begins anew", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  await cluster.die(node);
  const before = Object(JSON.parse((await cluster.store.get("nodes/n1")).entry?.value ?? ""));
  await put(cluster, "nodes/n1", { ...before, status: "fencing" });
  const plan = planRepair(await look(cluster), await look(cluster));
  expect(plan.actions.map(({ code }) => code)).toEqual(["fencing-without-intent"]);
  const repairing = runRepair(cluster.store, plan, { now: () => cluster.date() });
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect((await repairing).repaired).toHaveLength(1);
});

test("a job that makes no headway is an old one, and a quarantine past its end is overdue", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.stale = true;
  await cluster.die(node);
  await cluster.pass(120_000);
  const [old, ...others] = (await look(cluster, { intentMaxMs: 60_000 })).findings;
  expect(old).toMatchObject({ code: "intent-old", guarantee: "G11", node: "n1" });
  expect(old?.message).toContain("the fence of n1 is not verified");
  expect(others).toEqual([]);
  cluster.vpc.stale = false;
  cluster.vpc.stuck.add("eni-i-n1-0");
  await cluster.pass(60_000);
  const report = await checkCluster({
    store: cluster.store,
    now: () => new Date(cluster.date().getTime() + 2 * 3_600_000),
    intentMaxMs: 1e9,
  });
  expect(report.findings).toMatchObject([{ code: "quarantine-overdue", guarantee: "G6" }]);
  expect(report.findings[0]?.message).toContain("eni-i-n1-0 (in use)");
});

// Guard: gatherFacts leaves out what could not be asked (G8).
test("a cloud that does not answer is no finding", async () => {
  await using cluster = await TestCluster.open();
  await cluster.join("n1");
  const report = await checkCluster({
    store: cluster.store,
    cloudFor: () => Promise.reject(new Error("no credentials")),
  });
  expect(report.findings).toEqual([]);
  expect(report.unchecked).toEqual(["scripted: no credentials"]);
});

// Catalogue 10. Guard: packages/controller/src/finding.ts, isSameFinding: two checks agree on what it was decided
// upon.
test("what two checks do not agree on is left alone", async () => {
  await using cluster = await TestCluster.open();
  await cluster.join("n1");
  const nothing = await look(cluster);
  await put(cluster, "pool/10.0.77.7", lease);
  const first = await look(cluster);
  await put(cluster, "pool/10.0.77.7", { ...lease, seq: 2 });
  const second = await look(cluster);
  for (const before of [nothing, first]) {
    const plan = planRepair(before, second);
    expect(plan.actions).toEqual([]);
    expect(plan.left.map(({ why }) => why)).toEqual(["only one of two checks found it so"]);
  }
});

// Catalogue 29. Guard: packages/controller/src/repair.ts, Repair.#write: what an action was decided upon is compared.
test("two operators who repair at once, and one who comes late, do no harm", async () => {
  await using cluster = await TestCluster.open({ damaged: true });
  await cluster.join("n1");
  await put(cluster, "pool/10.0.77.7", lease);
  await put(cluster, "pool/10.0.77.8", lease);
  cluster.vpc.nics.set("eni-lost", { subnet: "10.0.77.0/24", instanceID: undefined });
  const plan = planRepair(await look(cluster), await look(cluster));
  expect(plan.actions).toHaveLength(3);
  const late = { ...plan, id: "repair-late" };
  cluster.start("a");
  const options = { now: () => cluster.date() };
  await pauseReclaim(cluster.store, "to see that it waits");
  const both = [runRepair(cluster.store, plan, options), runRepair(cluster.store, plan, options)];
  await cluster.pass(60_000);
  expect(cluster.vpc.nics.has("eni-lost")).toBe(true);
  await resumeReclaim(cluster.store);
  await cluster.pass(10_000);
  const [one, other] = await Promise.all(both);
  expect(one?.repaired).toHaveLength(3);
  expect(other?.repaired).toHaveLength(3);
  // Meanwhile a node has come to live there, and uses what was to be deleted.
  const mine = { subnet: "10.0.77.0/24", instanceID: undefined };
  cluster.vpc.nics.set("eni-lost", mine);
  await cluster.registry.register({
    node: "n7",
    uid: "i-n7",
    subnet: "10.0.77.0/24",
    eniIDs: ["eni-lost"],
    agentVersion: "1.0.0",
  });
  await put(cluster, "pool/10.0.77.7", { ...lease, node: "n7" });
  const before = await cluster.records();
  const repairing = runRepair(cluster.store, late, options);
  await cluster.pass(10_000);
  expect((await repairing).skipped).toHaveLength(3);
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.nics.get("eni-lost")).toBe(mine);
  expect(cluster.vpc.mutations.filter((line) => line.includes("eni-lost"))).toEqual(["a delete eni-lost"]);
});
