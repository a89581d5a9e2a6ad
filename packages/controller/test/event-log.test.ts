import { readEvents } from "@cocoon-net/controller";
import { eventOperation, listAll, prefixes } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { TestCluster } from "./test-cluster.ts";

async function typesOf(events: AsyncIterable<{ readonly type: string }>): Promise<string[]> {
  const types: string[] = [];
  for await (const { type } of events) types.push(type);
  return types;
}

test("the log of a node, of an address and of a subnet, oldest first", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  await cluster.join("n2");
  const time = "2026-01-01T00:00:00.000Z";
  const event = { time, type: "about-an-address", node: "n1", ip: "10.0.0.9", message: "" };
  await cluster.store.txn({ then: [eventOperation(1, event), { put: "events/9", value: "damaged" }] });
  const a = cluster.start("a");
  await cluster.die(node);
  await cluster.until("n1 is free", () => a.events.some(({ type }) => type === "subnet-freed"));
  const reclaimed = ["node-suspect", "reclaim-started", "subnet-quarantined", "subnet-freed"];
  expect(await typesOf(readEvents(cluster.store, { node: "n1" }))).toEqual([
    "about-an-address",
    "node-registered",
    ...reclaimed,
  ]);
  expect(await typesOf(readEvents(cluster.store, { ip: "10.0.1.7" }))).toEqual(["node-registered"]);
  expect(await typesOf(readEvents(cluster.store, { ip: "10.0.0.7" }))).toEqual([
    "node-registered",
    ...reclaimed,
  ]);
  expect(await typesOf(readEvents(cluster.store, { subnet: "10.0.1.0/24" }))).toEqual(["node-registered"]);
});

test("whoever follows misses nothing and sees nothing twice, and stops when told", async () => {
  await using cluster = await TestCluster.open();
  const stop = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const { node } of readEvents(cluster.store, { follow: true, signal: stop.signal })) {
      seen.push(node ?? "");
      if (seen.length === 40) stop.abort();
    }
  })();
  for (let index = 0; index < 40; index++) await cluster.join(`n${index}`);
  await cluster.pass(1_000);
  await following.catch(() => undefined);
  expect(seen).toEqual(Array.from({ length: 40 }, (_, index) => `n${index}`));
});

// Guard: trimEvents.
test.each([
  { keepEvents: 30, keepEventsMs: 86_400_000, left: 30 },
  { keepEvents: 10_000, keepEventsMs: 60_000, left: 0 },
])("the log keeps $keepEvents events, for $keepEventsMs ms", async ({ left, ...keep }) => {
  await using cluster = await TestCluster.open();
  const time = cluster.date().toISOString();
  for (let index = 0; index < 300; index++) {
    const event = { time, type: "old", message: String(index) };
    await cluster.store.txn({ then: [eventOperation(index, event)] });
  }
  await cluster.pass(120_000);
  cluster.start("a", keep);
  await cluster.pass(5_000);
  const { entries } = await listAll(cluster.store, prefixes.events);
  expect(entries).toHaveLength(left);
  if (left > 0) expect(JSON.parse(entries[0]?.value ?? "")).toMatchObject({ message: String(300 - left) });
});

test("a program reads what its controller tells", async () => {
  await using cluster = await TestCluster.open();
  const { controller, events } = cluster.start("a");
  const read = typesOf(controller.events());
  const half: string[] = [];
  const stop = new AbortController();
  const stopped = (async () => {
    for await (const { type } of controller.events({ signal: stop.signal })) {
      half.push(type);
      stop.abort();
    }
  })();
  const node = await cluster.join("n1");
  await cluster.pass(1_000);
  await cluster.silence(node);
  await cluster.pass(10_000);
  await controller[Symbol.asyncDispose]();
  await stopped;
  expect(await read).toEqual(events.map(({ type }) => type));
  expect(half).toEqual(["leader-elected"]);
  expect(await typesOf(controller.events())).toEqual([]);
});
