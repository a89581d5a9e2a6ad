import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { storeConformance, type TestServer, until, WatchLog } from "@cocoon-net/store-testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, it } from "vitest";
import { type ClusterSet, startCluster } from "./cluster-set.ts";
import { redisCli } from "./redis-cli.ts";
import { Writer } from "./writer.ts";

let set: ClusterSet;

beforeAll(async () => {
  set = await startCluster();
}, 120_000);

afterAll(async () => {
  await set?.[Symbol.asyncDispose]();
});

/** Time for a client to find the new owner, once there is one. */
const findingMs = 20_000;

storeConformance({
  name: "store-redis on a Cluster",
  open: ({ prefix }) => openRedisStore(`${set.url}${prefix}`),
  forgetHistory: async () => {
    for (const { host, port } of set.masters) {
      const redis = new Redis({ host, port });
      try {
        for (const stream of await redis.keys("*#changes")) await redis.xtrim(stream, "MAXLEN", 1);
      } finally {
        redis.disconnect();
      }
    }
  },
});

describe("a Redis Cluster", () => {
  it("holds one connection per handle, to the owner of the prefix's slot, and a second one while it watches", async () => {
    await using store = await openRedisStore(`${set.url}/cocoon-net`);
    assert.equal(store.capabilities.linearizable, false);
    await using log = new WatchLog(store, "");
    await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    await until("no others", 5_000, async () => {
      const nodes = [...set.masters, ...set.pair.slice(1)];
      const counts = await Promise.all(nodes.map((node) => clients(node)));
      return counts.toSorted().join() === "0,0,0,2";
    });
  });

  it("when the owner is killed (SIGKILL), is followed to its replica, and loses nothing that was confirmed", async () => {
    const [first] = set.pair;
    await using store = await openRedisStore(`${set.url}/cocoon-net`);
    await using log = new WatchLog(store, "w/");
    await using writer = new Writer(store, "w/");
    await until("writes", 5_000, () => writer.beatAt > 0);
    const before = await store.incarnation();
    await first.stop("SIGKILL");
    await assertFollows(store, log, writer, first);
    assert.notEqual(await store.incarnation(), before);
    await first.start();
    await set.complete();
  }, 180_000);

  it("when the owner is stopped (SIGSTOP), is followed to its replica, and loses nothing that was confirmed", async () => {
    await set.complete();
    const old = await set.owner();
    await using store = await openRedisStore(`${set.url}/cocoon-net`);
    await using log = new WatchLog(store, "v/");
    await using writer = new Writer(store, "v/");
    await until("writes", 5_000, () => writer.beatAt > 0);
    const before = await store.incarnation();
    old.pause();
    try {
      await assertFollows(store, log, writer, old);
    } finally {
      old.resume();
    }
    assert.notEqual(await store.incarnation(), before);
  }, 180_000);

  it("whose slot moves to another node is followed there", async () => {
    const [from, to] = set.masters.filter((node) => !set.pair.includes(node));
    assert.ok(from !== undefined && to !== undefined);
    const prefix = await until("a prefix that the node owns", 10_000, async () => {
      const candidate = `/moved/${randomInt(1_000_000)}`;
      return (await redisCli(from, "exists", candidate)) === "0" ? candidate : undefined;
    });
    const slot = await redisCli(from, "cluster", "keyslot", prefix);
    await using store = await openRedisStore(`${set.url}${prefix}`);
    await store.txn({ then: [{ put: "w/1", value: "1" }] });
    await using log = new WatchLog(store, "w/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 1);
    await moveSlot(slot, from, to);
    await until("a write to the new owner", 15_000, () => store.txn({ then: [{ put: "w/2", value: "2" }] }));
    await log.until("the change", 10_000, ({ state }) => state.size === 2);
    assert.equal(await redisCli(to, "hget", prefix, "w/2"), "2");
  });
});

async function assertFollows(store: Store, log: WatchLog, writer: Writer, old: TestServer): Promise<void> {
  await until("a new owner", 30_000, async () => (await set.owner()) !== old);
  const promotedAt = performance.now();
  await until("a write to it", findingMs, () => writer.beatAt > promotedAt);
  await writer.stop();
  assert.deepEqual((await writer.check(store)).lost, []);
  await log.until("the watcher to be up to date", findingMs, ({ state }) =>
    [...writer.told].every(([key, told]) => told !== "done" || state.has(key)),
  );
}

async function clients(node: TestServer): Promise<number> {
  return (await redisCli(node, "client", "list"))
    .split("\n")
    .filter((line) => line.includes("name=cocoon-net")).length;
}

/** As `redis-cli --cluster reshard` does it. */
async function moveSlot(slot: string, from: TestServer, to: TestServer): Promise<void> {
  const [source, target] = [await redisCli(from, "cluster", "myid"), await redisCli(to, "cluster", "myid")];
  await redisCli(to, "cluster", "setslot", slot, "importing", source);
  await redisCli(from, "cluster", "setslot", slot, "migrating", target);
  for (;;) {
    const keys = (await redisCli(from, "cluster", "getkeysinslot", slot, "100")).split("\n").filter(Boolean);
    if (keys.length === 0) break;
    const where = ["127.0.0.1", String(to.port), "", "0", "5000"];
    await redisCli(from, "migrate", ...where, "keys", ...keys);
  }
  for (const node of [to, from]) await redisCli(node, "cluster", "setslot", slot, "node", target);
}
