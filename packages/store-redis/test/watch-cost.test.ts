import assert from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, type TestServer, until, WatchLog } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

const url = (parameters = "", port = server.port): string => `redis://127.0.0.1:${port}${parameters}`;

/** How often the server has run a command since it was started. */
async function calls(command: string): Promise<number> {
  const stats = await redisCli(server, "info", "commandstats");
  return Number(new RegExp(`^cmdstat_${command}:calls=(\\d+)`, "m").exec(stats)?.[1] ?? 0);
}

async function put(store: Store, ...keys: string[]): Promise<void> {
  const then = keys.map((key) => ({ put: key, value: "x".repeat(100) }));
  await store.txn({ then }, { timeoutMs: 20_000 });
}

describe("what a watch costs follows what changes for it", () => {
  it("watchers of one key each hear nothing of others' changes, and of their own at once", async () => {
    await using opened = new AsyncDisposableStack();
    const logs: WatchLog[] = [];
    for (let node = 0; node < 40; node += 1) {
      const store = opened.use(await openRedisStore(url("/cost")));
      logs.push(opened.use(new WatchLog(store, `subnets/node-${node}`)));
    }
    for (const log of logs) await log.until("the snapshot", 10_000, ({ batches }) => batches.length > 0);
    const writing = opened.use(await openRedisStore(url("/cost")));
    const before = { scripts: await calls("evalsha"), messages: await calls("spublish") };
    const startedAt = performance.now();
    for (let turn = 0; turn < 200; turn += 1) {
      await put(writing, ...Array.from({ length: 25 }, (_, at) => `pool/172.20.${turn}.${at}`));
    }
    const took = performance.now() - startedAt;
    assert.equal(await calls("spublish"), before.messages, "messages about others' changes");
    // Besides the writes there is at most one look after its connection every five seconds and handle.
    const others = (await calls("evalsha")) - before.scripts - 200;
    assert.ok(others <= 40 * (1 + took / 5_000), `${others} scripts while others wrote for ${took} ms`);
    await put(writing, "subnets/node-7");
    await logs[7]?.until("its own change", 15_000, ({ changes }) => changes.length === 1);
    assert.equal((await calls("spublish")) - before.messages, 1);
    assert.deepEqual(
      logs.map((log) => log.batches.length),
      logs.map((_, node) => (node === 7 ? 2 : 1)),
    );
  });

  it("a prefix may end anywhere in a key, also within what more than one byte stands for a character of", async () => {
    await using store = await openRedisStore(url("/anywhere"));
    await using part = new WatchLog(store, "pool/172.20.1.");
    await using accents = new WatchLog(store, "vm/é");
    await using all = new WatchLog(store, "");
    for (const log of [part, accents, all]) {
      await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    }
    const keys = ["pool/172.20.1.7", "pool/172.20.10.7", "vm/école", "vm/è", "pool/172.20.1.", "vm/é"];
    for (const key of keys) await put(store, key);
    await all.until("all", 5_000, ({ changes }) => changes.length === keys.length);
    await part.until("its part", 5_000, ({ changes }) => changes.length === 2);
    await accents.until("its part", 5_000, ({ changes }) => changes.length === 2);
    assert.deepEqual([...part.state.keys()], ["pool/172.20.1.7", "pool/172.20.1."]);
    assert.deepEqual([...accents.state.keys()], ["vm/école", "vm/é"]);
  });

  it("clusters of one prefix in two databases hear nothing of each other", async () => {
    await using one = await openRedisStore(url("/same?db=1"));
    await using two = await openRedisStore(url("/same?db=2"));
    await using log = new WatchLog(two, "k");
    await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    const before = await calls("spublish");
    await put(one, "k");
    assert.equal(await calls("spublish"), before);
    await put(two, "k");
    await log.until("its own", 5_000, ({ changes }) => changes.length === 1);
  });

  it("a watcher that heard nothing for long goes on from there without a snapshot, however much others wrote", async () => {
    await using proxy = await startFaultProxy({ target: server });
    await using writing = await openRedisStore(url("/quiet?history=100"));
    await using watching = await openRedisStore(url("/quiet?history=100", proxy.port));
    await put(writing, "mine/0");
    await using log = new WatchLog(watching, "mine/");
    await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    for (let turn = 0; turn < 30; turn += 1) {
      await put(writing, ...Array.from({ length: 100 }, (_, at) => `others/${turn}/${at}`));
    }
    assert.ok(Number(await redisCli(server, "xlen", "{/quiet}#changes")) < 1_000, "history was cut");
    // The server tells every five seconds at the latest that nothing was sent because nothing was to be told.
    const ticks = await calls("evalsha");
    await until("the connection to be looked after", 10_000, async () => (await calls("evalsha")) > ticks);
    proxy.cut();
    await put(writing, "mine/1");
    await log.until("the change", 10_000, ({ state }) => state.size === 2);
    assert.deepEqual(
      log.batches.map(({ type }) => type),
      ["snapshot", "changes"],
    );
  });

  it("of changes that come faster than they are read, all are read, many at a time", async () => {
    await using writing = await openRedisStore(url("/fast"));
    await using watching = await openRedisStore(url("/fast"));
    await using log = new WatchLog(watching, "k/");
    await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    const keys = Array.from({ length: 3_000 }, (_, at) => `k/${at}`);
    const before = await calls("evalsha");
    await Promise.all(keys.map((key) => put(writing, key)));
    await log.until("all", 20_000, ({ changes }) => changes.length === keys.length);
    assert.deepEqual([...log.state.keys()], keys);
    const reads = (await calls("evalsha")) - before - keys.length;
    assert.ok(reads < keys.length / 2, `${reads} reads for ${keys.length} changes`);
  });
});
