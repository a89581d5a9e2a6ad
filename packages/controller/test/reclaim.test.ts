import { encode } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { leftRecord, TestCluster } from "./test-cluster.ts";

test("a node whose instance is gone gives everything back, and nothing else changes", async () => {
  await using cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  await cluster.join("n2");
  const before = await cluster.records();
  // A field of a newer version, which a rewrite must keep.
  const record = { ...(before["nodes/n1"] as object), rack: "r7" };
  await cluster.store.txn({ then: [{ put: "nodes/n1", value: encode(record) }] });
  const a = cluster.start("a");
  await cluster.pass(2_000);

  await cluster.die(dead);
  const silentAt = cluster.clock.now();
  await cluster.until("n1's block is free", () => a.events.some((event) => event.type === "subnet-freed"));

  const expected = { ...before, "nodes/n1": { ...leftRecord("n1", "10.0.0.0/24"), rack: "r7" } };
  for (const key of ["subnets/n1", "slots/10.0.0.0/24", "alive/n1", "pool/10.0.0.2", "pool/10.0.0.3"]) {
    delete expected[key];
  }
  expect(await cluster.records()).toEqual(expected);
  expect([...cluster.vpc.nics.keys()]).toEqual(["eni-i-n2-0", "eni-i-n2-1"]);
  const history = [
    "node-registered",
    "node-suspect",
    "reclaim-started",
    "subnet-quarantined",
    "subnet-freed",
  ];
  expect(await cluster.history("n1")).toEqual(history);
  expect(a.events.map((event) => event.type)).toEqual(["leader-elected", ...history.slice(1)]);
  // 20 s of silence, two looks 5 s apart, 30 s of quarantine.
  expect(cluster.clock.now() - silentAt).toBeGreaterThanOrEqual(55_000);
  expect(cluster.clock.now() - silentAt).toBeLessThan(60_000);

  const next = await cluster.join("n3");
  expect(next.registration.subnet).toBe("10.0.0.0/24");
});
