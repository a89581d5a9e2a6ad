import assert from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import {
  registerChecks,
  startRedis,
  transactions,
  until,
  WatchLog,
  watches,
} from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";
import { startScriptedSentinel } from "./scripted-sentinel.ts";
import { type SentinelSet, startSentinelSet } from "./sentinel-set.ts";
import { Writer } from "./writer.ts";

let set: SentinelSet;

beforeAll(async () => {
  set = await startSentinelSet();
}, 120_000);

afterAll(async () => {
  await set?.[Symbol.asyncDispose]();
});

/** Time for a client to find the new primary, once there is one. */
const findingMs = 20_000;

describe("Redis behind Sentinel", () => {
  const subject = {
    name: "store-redis behind Sentinel",
    open: ({ prefix }: { readonly prefix: string }) => openRedisStore(`${set.url}${prefix}`),
  };
  for (const group of [transactions, watches]) registerChecks(group, subject);

  it("when the primary is stopped (SIGSTOP), is followed to the new one; what the old one takes afterwards is not told to be certain", async () => {
    const old = await set.primary();
    await using store = await openRedisStore(`${set.url}/stopped`);
    assert.match(store.capabilities.durability, /replicas: 2,.* confirmed by 1 /);
    await using log = new WatchLog(store, "w/");
    const direct = (parameters: string) =>
      openRedisStore(`redis://127.0.0.1:${old.port}/stopped${parameters}`);
    await using careful = await direct("");
    await using careless = await direct("?wait=0");
    await using writer = new Writer(store, "w/");
    await until("writes", 5_000, () => writer.beatAt > 0);
    const before = await store.incarnation();
    old.pause();
    try {
      await assertFollows(store, log, writer, old.port);
      // Until the third server is told to follow the new primary, the old one could have its word.
      const next = await set.primary();
      await until("the other replica to follow", 20_000, async () =>
        (await redisCli(next, "info", "replication")).includes("state=online"),
      );
    } finally {
      old.resume();
    }
    assert.notEqual(await store.incarnation(), before);
    // The old primary serves those who do not know better, until the sentinels get to it.
    await using certain = new Writer(careful, "c/");
    await using uncertain = new Writer(careless, "u/");
    await until("the old primary to be told", 30_000, async () =>
      (await redisCli(old, "role")).startsWith("slave"),
    );
    await Promise.all([certain.stop(), uncertain.stop()]);
    await set.complete();
    assert.deepEqual((await certain.check(store)).lost, []);
    const { lost } = await uncertain.check(store);
    assert.ok(lost.length > 0, "without replicas' word, what was lost had been acknowledged");
    assert.ok(certain.errors.some(({ message }) => /confirmed by 0 of 1 replica/.test(message)));
  }, 180_000);

  it("when the primary is killed (SIGKILL), is followed to the new one, and loses nothing that was confirmed", async () => {
    await set.complete();
    const old = await set.primary();
    await using store = await openRedisStore(`${set.url}/killed`);
    await using log = new WatchLog(store, "w/");
    await using writer = new Writer(store, "w/");
    await until("writes", 5_000, () => writer.beatAt > 0);
    const before = await store.incarnation();
    await old.stop("SIGKILL");
    await assertFollows(store, log, writer, old.port);
    assert.notEqual(await store.incarnation(), before);
  }, 180_000);
});

describe("a client of Sentinel", () => {
  it("goes on when it hears of a failover just while it looks for the primary, where ioredis ends for good", async () => {
    await using server = await startRedis();
    await using sentinel = await startScriptedSentinel(server);
    await using store = await openRedisStore(`redis+sentinel://127.0.0.1:${sentinel.port}/m`);
    await store.get("k");
    sentinel.hold();
    const { asked } = sentinel;
    await redisCli(server, "client", "kill", "type", "normal");
    await until("the client to look for the primary", 15_000, () => sentinel.asked > asked);
    sentinel.announce();
    const answer = until("an answer", 20_000, () => store.get("k"));
    // The announcement has to arrive before the address does.
    setTimeout(() => sentinel.release(), 200);
    await answer;
  });
});

async function assertFollows(store: Store, log: WatchLog, writer: Writer, oldPort: number): Promise<void> {
  const next = await until("a new primary", 30_000, async () => {
    const server = await set.primary();
    return server.port === oldPort ? undefined : server;
  });
  const promotedAt = performance.now();
  await until("a write to it", findingMs, () => writer.beatAt > promotedAt);
  await writer.stop();
  assert.deepEqual((await writer.check(store)).lost, []);
  await log.until("the watcher to be up to date", findingMs, ({ state }) =>
    [...writer.told].every(([key, told]) => told !== "done" || state.has(key)),
  );
  const { entries } = await store.list("w/", { limit: 5_000 });
  assert.deepEqual([...log.state.keys()].toSorted(), entries.map(({ key }) => key).toSorted());
  assert.match(await redisCli(next, "role"), /^master/);
}
