import { requestMigration } from "@cocoon-net/controller";
import { encode } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { TestCluster } from "./test-cluster.ts";

test("what a leader knows, as numbers; another one knows only what it has done itself", async () => {
  await using cluster = await TestCluster.open();
  const nodes = [await cluster.join("n1"), await cluster.join("n2"), await cluster.join("n3")];
  const a = cluster.start("a");
  await cluster.pass(1_000);
  const b = cluster.start("b");
  expect(a.controller.metrics()).toMatchObject({
    leading: true,
    nodes: { ready: 3 },
    slots: { total: 256, owned: 3, quarantined: 0, free: 253 },
    intents: [],
    breakerOpen: false,
    watchLagSeconds: 0,
  });
  expect(b.controller.metrics()).toMatchObject({ leading: false, nodes: {}, slots: { total: 0 } });
  if (nodes[0]) await cluster.die(nodes[0]);
  await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
  await cluster.pass(20_000);
  expect(a.controller.metrics()).toMatchObject({
    nodes: { ready: 2 },
    slots: { owned: 2, quarantined: 1, free: 253 },
    intents: [{ kind: "reclaim", step: "waiting", count: 1, oldestSeconds: expect.any(Number) }],
  });
  await cluster.until("it is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  // 20 s of silence, two looks 5 s apart, 30 s of quarantine.
  const { count, sum, buckets } = a.controller.metrics().reclaimSeconds;
  expect([count, Math.round(sum / 5) * 5]).toEqual([1, 55]);
  expect(buckets.map((bucket) => bucket.count)).toContain(1);
  const call = {
    platform: "scripted",
    action: "Detach",
    result: "throttled",
    tookMs: 1,
    waitedMs: 0,
  } as const;
  a.controller.countCloudCall(call);
  a.controller.countCloudCall(call);
  expect(a.controller.metrics().cloudCalls).toEqual([
    { platform: "scripted", action: "Detach", result: "throttled", count: 2 },
  ]);
  await requestMigration(cluster.store, { ip: "10.0.1.2", to: "n3" });
  await cluster.pass(5_000);
  expect(a.controller.metrics()).toMatchObject({
    movedAddresses: 1,
    intents: [{ kind: "move", step: "preparing", count: 1, oldestSeconds: expect.any(Number) }],
  });
});

// Guard: StandingCheck tells only what two rounds agree on (G8).
test("the leader checks by itself, and tells once what two rounds agree on", async () => {
  await using cluster = await TestCluster.open();
  await cluster.join("n1");
  const a = cluster.start("a", { checkEveryMs: 60_000 });
  const lease = { node: "n9", mac: "02:00:00:00:00:09", expiry: "2026-01-02T00:00:00.000Z", seq: 1 };
  await cluster.store.txn({
    then: [{ put: "slots/10.0.9.0/24", value: encode({ node: "n9", uid: "i-9" }) }],
  });
  await cluster.store.txn({ then: [{ put: "pool/10.0.0.9", value: encode(lease) }] });
  await cluster.pass(65_000);
  expect(a.events.map(({ type }) => type)).toEqual(["leader-elected"]);
  expect(a.controller.metrics().findings).toEqual({ repairable: 1, others: 1 });
  await cluster.pass(600_000);
  const told = a.events.filter(({ type }) => type === "check-finding").map(({ message }) => message);
  expect(told).toEqual([
    "slot-without-owner (G1): slot 10.0.9.0/24 says n9, which owns no subnet",
    "lease-of-another (G2): 10.0.0.9 lies in the subnet of n1; the lease on record is n9's",
  ]);
  expect(await cluster.records()).toHaveProperty(["pool/10.0.0.9"]);
});
