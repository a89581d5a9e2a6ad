import assert from "node:assert/strict";
import { type Store, UnavailableError } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import {
  type FaultProxy,
  startFaultProxy,
  startRedis,
  type TestServer,
  until,
  WatchLog,
} from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

const open = (at: { readonly port: number }, parameters = ""): Promise<Store> =>
  openRedisStore(`redis://127.0.0.1:${at.port}${parameters}`);

async function put(store: Store, key: string, value = ""): Promise<void> {
  await store.txn({ then: [{ put: key, value }] });
}

interface Pair extends AsyncDisposable {
  readonly primary: TestServer;
  readonly replica: TestServer;
  /** Between the two. */
  readonly path: FaultProxy;
}

async function startPair(): Promise<Pair> {
  await using started = new AsyncDisposableStack();
  const shared = ["--repl-diskless-sync-delay", "0"];
  const primary = started.use(await startRedis({ appendonly: true, extraArgs: shared }));
  const path = started.use(await startFaultProxy({ target: primary }));
  const extraArgs = [...shared, "--replicaof", "127.0.0.1", String(path.port)];
  const replica = started.use(await startRedis({ appendonly: true, extraArgs }));
  await synchronised(replica);
  const parts = started.move();
  return { primary, replica, path, [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose]() };
}

async function synchronised(replica: TestServer): Promise<void> {
  await until("the replica to follow", 20_000, async () =>
    (await redisCli(replica, "info", "replication")).includes("master_link_status:up"),
  );
}

async function arrival(replica: TestServer, key: string): Promise<void> {
  await until(`${key} on the replica`, 10_000, async () =>
    (await redisCli(replica, "hexists", "/cocoon-net", key)) === "1" ? true : undefined,
  );
}

async function promote(replica: TestServer): Promise<void> {
  await redisCli(replica, "replicaof", "no", "one");
}

describe("a primary whose replica was cut off", () => {
  it("says of new keys that they are in doubt, of other writes nothing, and holds up nobody for long", async () => {
    await using pair = await startPair();
    const { primary, path } = pair;
    await using store = await open(primary);
    assert.match(
      store.capabilities.durability,
      /replicas: 1, .*confirmed by 1 \(wait\).*min-replicas-to-write 0/,
    );
    await until("a confirmed key", 10_000, () => put(store, "old").then(() => true));
    await path.blackhole();
    const error = await put(store, "new").catch((reason: unknown) => reason);
    assert.ok(error instanceof UnavailableError && error.outcome === "unknown", String(error));
    assert.match(error.message, /applied, but confirmed by 0 of 1 replica/);
    assert.ok((await store.get("new")).entry, "it is applied");
    await put(store, "old", "again");
    await store.txn({ then: [{ delete: "old" }] });
    // All that are made at once wait together, and calls in between are answered.
    const startedAt = performance.now();
    const making = Promise.allSettled(
      Array.from({ length: 300 }, (_, at) =>
        store.txn({ then: [{ put: `many/${at}`, value: "" }] }, { timeoutMs: 10_000 }),
      ),
    );
    await until("a session to be kept meanwhile", 5_000, () => store.session(1_000));
    const told = await making;
    const took = performance.now() - startedAt;
    assert.ok(took < 8_000, `300 new keys took ${Math.round(took)} ms`);
    for (const outcome of told) {
      assert.match(String(outcome.status === "rejected" && outcome.reason), /confirmed by 0 of 1 replica/);
    }
    await path.pass();
    await until("new keys to be confirmed again", 10_000, () =>
      put(store, `again/${performance.now()}`).then(() => true),
    );
  });

  it("is not asked for it with wait=0, and is asked for as many as wait says", async () => {
    await using pair = await startPair();
    await using none = await open(pair.primary, "?wait=0");
    await using two = await open(pair.primary, "?wait=2");
    assert.match(none.capabilities.durability, /not confirmed by any \(wait=0\)/);
    await pair.path.blackhole();
    await put(none, "k");
    const error = await put(two, "l").catch((reason: unknown) => reason);
    assert.match(String(error), /confirmed by 0 of 2 replicas/);
  });

  it("refuses all under min-replicas-to-write, which is said at open", async () => {
    await using pair = await startPair();
    await redisCli(pair.primary, "config", "set", "min-replicas-to-write", "1");
    await redisCli(pair.primary, "config", "set", "min-replicas-max-lag", "2");
    await using store = await until("enough replicas", 10_000, () => open(pair.primary));
    assert.match(store.capabilities.durability, /without 1 of them refuses all \(min-replicas-to-write\)/);
    await until("a confirmed key", 10_000, () => put(store, "k").then(() => true));
    await pair.path.blackhole();
    const error = await until("a refusal", 10_000, () =>
      store.get("k").then(
        () => undefined,
        (reason: unknown) => reason,
      ),
    );
    assert.ok(error instanceof UnavailableError && error.outcome === "none");
    assert.match(error.message, /NOREPLICAS/);
  });
});

describe("the incarnation", () => {
  it("changes when a replica is promoted that lacks 500 acknowledged writes, and watchers start over", async () => {
    await using pair = await startPair();
    const { primary, replica, path } = pair;
    await using store = await open(primary);
    await until("a confirmed key", 10_000, () => put(store, "w/known", "0").then(() => true));
    const { revision } = await store.get("w/known");
    await arrival(replica, "w/known");
    const before = await store.incarnation();
    await path.blackhole();
    for (let turn = 1; turn <= 500; turn += 1) await put(store, "w/known", String(turn));
    await primary.stop("SIGKILL");
    await promote(replica);
    await using after = await open(replica);
    assert.equal((await after.get("w/known")).entry?.value, "0", "the writes are lost");
    assert.notEqual(await after.incarnation(), before);
    assert.equal(await after.incarnation(), await after.incarnation());
    await using log = new WatchLog(after, "w/", { fromRevision: revision + 500 });
    await log.until("the truth", 5_000, ({ state }) => state.get("w/known") === "0");
    assert.equal(log.batches[0]?.type, "snapshot");
  });

  it("changes when a server is promoted that had been the primary before, in the same process", async () => {
    await using pair = await startPair();
    const { primary, replica } = pair;
    await using store = await open(primary, "?wait=0");
    await using bystander = await open(primary);
    await put(store, "w/1");
    await using log = new WatchLog(store, "w/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 1);
    const before = await bystander.incarnation();
    await arrival(replica, "w/1");
    await promote(replica);
    await put(store, "w/lost");
    await log.until("what will be lost", 5_000, ({ state }) => state.has("w/lost"));
    await redisCli(primary, "replicaof", "127.0.0.1", String(replica.port));
    await synchronised(primary);
    await promote(primary);
    // What comes in the place of the lost write has its revision, and what comes then goes on from there.
    for (const key of ["w/2", "w/3"]) {
      await until("a write", 10_000, () => put(store, key).then(() => true));
    }
    await log.until("the last write", 10_000, ({ state }) => state.has("w/3"));
    assert.deepEqual([...log.state.keys()], ["w/1", "w/2", "w/3"]);
    assert.notEqual(await bystander.incarnation(), before);
  });

  it("changes with a restart, without persistence", async () => {
    await using server = await startRedis();
    await using store = await open(server);
    await put(store, "k");
    const before = await store.incarnation();
    await server.restart("SIGKILL");
    const after = await until("an answer", 10_000, () => store.incarnation());
    assert.notEqual(after, before);
    assert.equal((await store.get("k")).entry, undefined);
  });

  it("changes with FLUSHALL", async () => {
    await using server = await startRedis();
    await using store = await open(server);
    await put(store, "k");
    const before = await store.incarnation();
    await redisCli(server, "flushall");
    assert.notEqual(await store.incarnation(), before);
  });

  it("changes for everybody when one has seen more than the server has, as after a restore of the keys", async () => {
    await using server = await startRedis();
    await using store = await open(server);
    await using other = await open(server);
    await put(store, "k", "1");
    const before = await store.incarnation();
    const keys = (await redisCli(server, "keys", "*cocoon-net*")).split("\n");
    for (const key of keys) await redisCli(server, "copy", key, `backup ${key}`);
    assert.equal(await other.incarnation(), before);
    for (let turn = 0; turn < 5; turn += 1) await put(store, "k", "lost");
    for (const key of keys) await redisCli(server, "copy", `backup ${key}`, key, "replace");
    const after = await store.incarnation();
    assert.notEqual(after, before);
    assert.equal(await other.incarnation(), after);
    assert.equal(await store.incarnation(), after);
  });

  it("stays over lost connections, a stop of the server, and another replica", async () => {
    await using pair = await startPair();
    await using proxy = await startFaultProxy({ target: pair.primary });
    await using store = await open(proxy);
    const before = await store.incarnation();
    proxy.cut();
    pair.primary.pause();
    pair.primary.resume();
    const extraArgs = ["--replicaof", "127.0.0.1", String(pair.primary.port)];
    await using another = await startRedis({ extraArgs });
    await synchronised(another);
    assert.equal(await until("an answer", 10_000, () => store.incarnation()), before);
  });
});
