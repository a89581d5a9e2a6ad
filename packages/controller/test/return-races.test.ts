import { encode, type TxnRequest } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { TestCluster, type TestController, type TestNode } from "./test-cluster.ts";

/** Runs `first` just before the controller's first transaction that puts or deletes a key that matches. */
function before(controller: TestController, key: RegExp, first: () => Promise<unknown>): void {
  let done = false;
  controller.store.intercept = async (request, forward) => {
    if (!done && changes(request, key)) {
      done = true;
      await first();
    }
    return forward();
  };
}

function changes(request: TxnRequest, key: RegExp): boolean {
  return (request.then ?? []).some(
    (operation) =>
      ("put" in operation && key.test(operation.put)) ||
      ("delete" in operation && key.test(operation.delete)),
  );
}

function registerAnew(cluster: TestCluster) {
  return cluster.registry.register({ node: "n1", uid: "i-n1", instanceID: "i-n1", agentVersion: "1.0.0" });
}

async function expectReturned(cluster: TestCluster, node: TestNode): Promise<void> {
  await cluster.until("n1 has returned", async () => (await cluster.history("n1")).includes("node-returned"));
  await node.registration.verify();
  expect(cluster.vpc.mutations).toEqual([]);
  const records = await cluster.records();
  expect(records).toMatchObject({ "nodes/n1": { status: "ready" } });
  expect(Object.keys(records).filter((key) => key.startsWith("intents/"))).toEqual([]);
}

// Guard: `alive/{node}` absent in the transaction that starts a reclaim.
test("a node that speaks just before its reclaim is written down is not reclaimed", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(node);
  before(a, /^intents\//, () => cluster.speak(node));
  await expectReturned(cluster, node);
  expect(await cluster.history("n1")).not.toContain("reclaim-started");
});

// Guards: `alive/{node}` absent in the first record of the fence; the look at it before each try.
test("a node that speaks just before the first change at the cloud keeps everything", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.before = async (call) => {
    if (call === "a fence n1" && !node.session) await cluster.speak(node);
  };
  await cluster.die(node);
  await expectReturned(cluster, node);
});

// Guard: `alive/{node}` absent in the transaction of the quarantine, when the fence had nothing to change.
test("a node that speaks while a fence finds nothing to change keeps its block", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  for (const nic of cluster.vpc.nics.values()) nic.instanceID = undefined;
  before(a, /^quarantine\//, () => cluster.speak(node));
  await cluster.die(node);
  await expectReturned(cluster, node);
});

test("a node that speaks once the fence has begun loses its block, and each of its writes is refused", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a");
  cluster.vpc.before = async (call) => {
    if (call === "a detach eni-i-n1-0") await cluster.speak(node);
  };
  await cluster.die(node);
  await cluster.until("quarantine", async () => (await cluster.history("n1")).includes("subnet-quarantined"));
  await expect(cluster.lease(node.registration, [7])).rejects.toMatchObject({ code: "fenced" });
  await expect(node.registration.update({ zone: "z" })).rejects.toMatchObject({ code: "fenced" });
});

// Guard: `quarantine/{cidr}` compared in every record of a release.
test("a node that takes its block back keeps the NICs that are not deleted yet", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  let retaken = false;
  cluster.vpc.before = async (call) => {
    if (call !== "a release n1" || retaken) return;
    retaken = true;
    await registerAnew(cluster);
  };
  await cluster.die(node);
  await cluster.until("the reclaim has ended", () => a.events.some(({ type }) => type === "reclaim-ended"));
  expect([...cluster.vpc.nics.keys()]).toEqual(["eni-i-n1-0", "eni-i-n1-1"]);
});

// Guard: `quarantine/{cidr}` compared in the deletion of leases (G4).
test("a node that takes its block back keeps its leases", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  before(a, /^pool\//, () => registerAnew(cluster));
  await cluster.die(node);
  await cluster.until("the reclaim has ended", () => a.events.some(({ type }) => type === "reclaim-ended"));
  expect(Object.keys(await cluster.records()).filter((key) => key.startsWith("pool/"))).toEqual([
    "pool/10.0.0.2",
    "pool/10.0.0.3",
  ]);
});

// Guard: packages/controller/src/reclaim-release.ts, free: the slots are compared beside the quarantine (G1, G4).
test("a block whose slot has changed just before it is freed is not freed", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(node);
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  const other = { node: "", uid: "i-other" };
  before(a, /^slots\//, () =>
    cluster.store.txn({ then: [{ put: "slots/10.0.0.0/24", value: encode(other) }] }),
  );
  await cluster.until("it is told", () => a.events.some(({ type }) => type === "reclaim-retry"));
  await cluster.pass(60_000);
  expect(await cluster.records()).toMatchObject({ "slots/10.0.0.0/24": other });
  expect(await cluster.history("n1")).not.toContain("subnet-freed");
});

// Guards: the quarantine and the slots are compared where the block is freed; either keeps it (G1).
test("a node that takes its block back just before it is freed owns it", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.die(node);
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  let registration = node.registration;
  before(a, /^slots\//, async () => {
    registration = await registerAnew(cluster);
  });
  await cluster.until("the reclaim has ended", () => a.events.some(({ type }) => type === "reclaim-ended"));
  expect(registration.epoch).toBeGreaterThan(node.registration.epoch);
  await registration.verify();
  expect(await cluster.records()).toMatchObject({ "slots/10.0.0.0/24": { node: "n1", uid: "i-n1" } });
  expect(await cluster.history("n1")).not.toContain("subnet-freed");
});

// Guard: `paused` in the record of each change of a fence (G13).
test("mass silence stops a fence between two of its changes", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 10; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a");
  const goOn = Promise.withResolvers<void>();
  cluster.vpc.before = async (call) => {
    if (call === "a detach eni-i-n1-0") await goOn.promise;
  };
  const [first, ...others] = nodes;
  if (first) await cluster.die(first);
  await cluster.until("the fence has begun", () => cluster.vpc.calls.includes("a detach eni-i-n1-0"));
  for (const node of others.slice(0, 3)) await cluster.silence(node);
  await cluster.until("it pauses", () => a.events.some(({ type }) => type === "reclaim-paused"));
  goOn.resolve();
  await cluster.pass(60_000);
  expect(cluster.vpc.mutations).toEqual(["a detach eni-i-n1-0"]);
});
