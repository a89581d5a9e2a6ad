import { decode, incarnationSchema, keys } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { TestCluster, type TestController } from "./test-cluster.ts";

async function isRecovering(cluster: TestCluster): Promise<boolean> {
  const { entry } = await cluster.store.get(keys.incarnation);
  return entry !== undefined && decode(incarnationSchema, entry).recovering;
}

/** The controller's server is another one from now on; waits until it has noticed. */
async function failOver(cluster: TestCluster, { store }: TestController): Promise<void> {
  store.server = " promoted";
  await cluster.until("the loss is noticed", () => isRecovering(cluster), 20_000);
}

// Guards: Detection is paused while the store recovers; the first look comes before the term's first decision.
test("while the store recovers a silent node becomes suspect, and nothing else happens to it", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  await cluster.join("n2");
  const a = cluster.start("a");
  await cluster.pass(1_000);
  await cluster.die(dead);
  await failOver(cluster, a);
  // Without the window its fence would have begun after 26 s.
  await cluster.pass(58_000);
  expect(await isRecovering(cluster)).toBe(true);
  expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect"]);
  expect(cluster.vpc.mutations).toEqual([]);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect(await isRecovering(cluster)).toBe(false);
  expect(await cluster.history("n2")).toEqual(["node-registered"]);
});

test("a leader that finds the store changed opens the window before it acts", async () => {
  await using cluster = await TestCluster.open();
  await cluster.die(await cluster.join("n1"));
  const a = cluster.start("a", {
    prepare: ({ store }) => {
      store.server = " promoted";
    },
  });
  await cluster.until("it leads", () => a.controller.leading);
  await cluster.pass(58_000);
  expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect"]);
  expect(a.events.map(({ type }) => type)).toEqual(["leader-elected", "problem", "node-suspect"]);
});

// Guard: `recovering` in Reclaim#advance.
test("a block whose quarantine ends while the store recovers is freed afterwards", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.pass(1_000);
  await cluster.die(dead);
  await cluster.until("quarantine", async () => (await cluster.history("n1")).includes("subnet-quarantined"));
  await failOver(cluster, a);
  await cluster.pass(58_000);
  expect(await cluster.history("n1")).not.toContain("subnet-freed");
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect(await isRecovering(cluster)).toBe(false);
});

// Guard: `recovering` in the job's record.
test("a fence under way makes no further change while the store recovers", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.pass(1_000);
  cluster.vpc.before = async (call) => {
    if (call !== "a fence n1" || a.store.server !== "") return;
    const { entry } = await cluster.store.get(keys.incarnation);
    const record = decode(incarnationSchema, entry ?? { key: "", value: "" });
    const value = JSON.stringify({ ...record, recovering: true });
    await cluster.store.txn({ then: [{ put: keys.incarnation, value }] });
    a.store.server = " ";
    await cluster.pass(0);
  };
  await cluster.die(dead);
  await cluster.until("the fence is begun", () => a.store.server !== "");
  await cluster.pass(50_000);
  expect(cluster.vpc.mutations).toEqual([]);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
});
