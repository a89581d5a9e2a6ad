import assert from "node:assert/strict";
import { type Store, UnavailableError } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, until, WatchLog } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

const open = (at: { readonly port: number }): Promise<Store> =>
  openRedisStore(`redis://127.0.0.1:${at.port}`);

async function put(store: Store, key: string, value: string): Promise<number> {
  return (await store.txn({ then: [{ put: key, value }] })).revision;
}

/** Waits until the store answers again, and puts. */
function putAgain(store: Store, key: string, value: string): Promise<number> {
  return until("an answer", 15_000, () => put(store, key, value));
}

describe("a server that is stopped (SIGSTOP)", () => {
  it("costs each call its deadline, leaves a write in doubt, and runs it at most once", async () => {
    await using server = await startRedis({ appendonly: true });
    await using store = await open(server);
    await put(store, "n", "0");
    const outcomes = new Map<string, string>();
    server.pause();
    try {
      const startedAt = performance.now();
      const write = store.txn({ then: [{ put: "n", value: "1" }] }, { timeoutMs: 500 });
      await assert.rejects(
        write,
        (error) => error instanceof UnavailableError && error.outcome === "unknown",
      );
      await assert.rejects(
        store.get("n", { timeoutMs: 500 }),
        (error) => error instanceof UnavailableError && error.outcome === "none",
      );
      // Without a deadline of their own each would take 2 s.
      assert.ok(performance.now() - startedAt < 3_500);
      // The silence breaks the connection; the next one gets no further than the server's kernel.
      await until("a write that was never sent", 15_000, async () => {
        const key = `turn/${outcomes.size}`;
        const late = store.txn({ then: [{ put: key, value: "" }] }, { timeoutMs: 100 });
        const error = await late.then(
          () => undefined,
          (reason: unknown) => reason,
        );
        assert.ok(error instanceof UnavailableError);
        outcomes.set(key, error.outcome);
        return error.outcome === "none";
      });
    } finally {
      server.resume();
    }
    const goesOnAt = performance.now();
    const { entry } = await until("an answer", 15_000, () => store.get("n"));
    assert.ok(performance.now() - goesOnAt < 8_000, "heard again soon after it goes on");
    assert.equal(entry?.value, "1");
    // What was in doubt lay in the stopped server's kernel, and ran when it went on; nothing ran twice.
    for (const [key, outcome] of outcomes) {
      const late = (await store.get(key)).entry;
      assert.equal(late === undefined, outcome === "none", `${key}, ${outcome}`);
      assert.equal(late?.createRevision, late?.modRevision);
    }
    assert.equal(await redisCli(server, "xlen", "{/cocoon-net}#changes"), String(outcomes.size + 1));
  });
});

describe("a server that is away for three seconds (SIGKILL)", () => {
  it("lets no call hang, sends nothing late, and is heard again soon after its return", async () => {
    await using server = await startRedis({ appendonly: true, appendfsync: "always" });
    await using store = await open(server);
    await put(store, "w/0", "");
    await using log = new WatchLog(store, "w/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 1);
    await server.stop("SIGKILL");
    const awayAt = performance.now();
    const times: number[] = [];
    for (let turn = 0; performance.now() - awayAt < 3_000; turn += 1) {
      const sentAt = performance.now();
      const ghost = store.txn({ then: [{ put: `ghost/${turn}`, value: "" }] }, { timeoutMs: 200 });
      await assert.rejects(ghost, (error) => error instanceof UnavailableError && error.outcome === "none");
      times.push(performance.now() - sentAt);
    }
    // A busy machine may stand still during one of them.
    const [, longest = 0] = times.toSorted((one, other) => other - one);
    assert.ok(longest < 1_000, `a call of 200 ms took ${Math.round(longest)} ms`);
    await server.start();
    const backAt = performance.now();
    await putAgain(store, "w/1", "");
    assert.ok(performance.now() - backAt < 8_000, "an answer");
    await log.until("the change", 15_000, ({ state }) => state.size === 2);
    assert.deepEqual((await store.list("ghost/")).entries, []);
    assert.equal(await redisCli(server, "xlen", "{/cocoon-net}#changes"), "2");
  });
});

describe("an answer that is lost", () => {
  it("leaves the write in doubt, and ioredis does not send it again behind our back", async () => {
    await using server = await startRedis();
    await using proxy = await startFaultProxy({ target: server });
    await using store = await open(proxy);
    await put(store, "n", "0");
    proxy.swallow();
    const error = await put(store, "n", "1").catch((reason: unknown) => reason);
    assert.ok(error instanceof UnavailableError);
    assert.equal(error.outcome, "unknown");
    const { entry } = await until("an answer", 15_000, () => store.get("n"));
    assert.equal(entry?.value, "1");
    assert.equal(await redisCli(server, "xlen", "{/cocoon-net}#changes"), "2");
  });
});

describe("a server that is killed and started again", () => {
  it("with every write on disk, goes on for watchers without a gap, in a new incarnation", async () => {
    await using server = await startRedis({ appendonly: true, appendfsync: "always" });
    await using store = await open(server);
    await put(store, "w/0", "0");
    await using log = new WatchLog(store, "w/", { fromRevision: 0 });
    await log.until("the first change", 5_000, () => log.changes.length === 1);
    const before = await store.incarnation();
    await put(store, "w/1", "1");
    await server.restart("SIGKILL");
    await putAgain(store, "w/2", "2");
    await log.until("all changes", 15_000, ({ state }) => state.has("w/2"));
    assert.deepEqual([...log.state.keys()], ["w/0", "w/1", "w/2"]);
    assert.ok(
      log.batches.every(({ type }) => type === "changes"),
      "history went on",
    );
    assert.notEqual(await store.incarnation(), before);
  });

  it("without its newest writes, gives watchers a snapshot even when the revisions have caught up", async () => {
    await using server = await startRedis();
    await using proxy = await startFaultProxy({ target: server });
    await using store = await open(server);
    await using watching = await open(proxy);
    await put(store, "w/kept", "1");
    await redisCli(server, "save");
    await using log = new WatchLog(watching, "w/");
    await put(store, "w/lost", "1");
    await log.until("what will be lost", 5_000, ({ state }) => state.has("w/lost"));
    proxy.refuse();
    await server.restart("SIGKILL");
    await putAgain(store, "w/other", "1");
    await put(store, "w/more", "1");
    await proxy.pass();
    await log.until("the truth", 15_000, ({ state }) => !state.has("w/lost"));
    await log.until("the rest", 5_000, ({ state }) => state.has("w/more"));
    assert.deepEqual([...log.state.keys()].toSorted(), ["w/kept", "w/more", "w/other"]);
  });
});

describe("a database that is emptied", () => {
  it("is a new incarnation, and watchers start over", async () => {
    await using server = await startRedis({ appendonly: true });
    await using store = await open(server);
    for (const key of ["w/1", "w/2", "w/3"]) await put(store, key, "old");
    await using log = new WatchLog(store, "w/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 3);
    const before = await store.incarnation();
    await redisCli(server, "flushall");
    assert.notEqual(await store.incarnation(), before);
    await put(store, "w/1", "new");
    await log.until("the new state", 15_000, ({ state }) => state.size === 1);
    assert.equal(log.state.get("w/1"), "new");
  });
});

describe("a database that is emptied and filled again", () => {
  it("is not taken for what went on, by a watcher that hears of it first from a change", async () => {
    await using server = await startRedis();
    await using store = await open(server);
    await using other = await open(server);
    for (const key of ["w/1", "w/2", "w/3"]) await put(store, key, "old");
    await using log = new WatchLog(store, "w/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 3);
    await redisCli(server, "flushall");
    // A new watcher: from now on the server tells of such changes again, the first watcher too.
    await using late = new WatchLog(other, "w/");
    await late.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    for (const key of ["x/1", "x/2", "x/3", "w/4", "w/5"]) await put(other, key, "new");
    for (const watcher of [log, late]) {
      await watcher.until("the new state", 10_000, ({ state }) => state.has("w/5"));
      assert.deepEqual([...watcher.state.keys()], ["w/4", "w/5"]);
    }
  });
});

describe("history that is cut", () => {
  it("while a watcher is away gives it a snapshot, not silence", async () => {
    await using server = await startRedis({ appendonly: true });
    await using proxy = await startFaultProxy({ target: server });
    await using store = await open(server);
    await using watching = await open(proxy);
    await using log = new WatchLog(watching, "w/");
    await put(store, "w/1", "1");
    await log.until("the first change", 5_000, ({ state }) => state.has("w/1"));
    const seen = log.batches.length;
    proxy.refuse();
    await put(store, "w/2", "2");
    await store.txn({ then: [{ delete: "w/1" }] });
    await put(store, "w/3", "3");
    await redisCli(server, "xtrim", "{/cocoon-net}#changes", "MAXLEN", "2");
    await proxy.pass();
    await log.until("what happened meanwhile", 15_000, ({ state }) => state.has("w/3"));
    assert.equal(log.batches[seen]?.type, "snapshot");
    assert.deepEqual([...log.state.keys()], ["w/2", "w/3"]);
    await put(store, "w/4", "4");
    await log.until("the next change", 5_000, ({ state }) => state.has("w/4"));
    assert.equal(log.batches.at(-1)?.type, "changes");
  });
});

describe("a snapshot of several pages", () => {
  it("is what the prefix held at its revision, though others wrote while it was read", async () => {
    await using server = await startRedis();
    await using store = await open(server);
    // A page ends after 4 MiB, so that these make about five.
    const value = "x".repeat(500_000);
    const keys = Array.from({ length: 40 }, (_, at) => `w/${at}`);
    for (const key of keys) await put(store, key, value);
    await using all = new WatchLog(store, "w/", { fromRevision: 0 });
    const writing = new AbortController();
    const write = async () => {
      await using writer = await open(server);
      for (let turn = 0; !writing.signal.aborted; turn += 1) {
        const [one, two] = [`w/${(turn * 7) % 50}`, `w/${(turn * 11 + 1) % 50}`];
        const then = one === two ? [] : [{ put: one, value: `${turn}` }, { delete: two }];
        await writer.txn({ then }, { timeoutMs: 20_000 });
      }
    };
    const done = write();
    await using snapshots = new AsyncDisposableStack();
    const logs = Array.from({ length: 5 }, () => snapshots.use(new WatchLog(store, "w/")));
    for (const log of logs) await log.until("the snapshot", 20_000, () => log.batches.length > 0);
    writing.abort();
    await done;
    for (const log of logs) {
      const [snapshot] = log.batches;
      assert.ok(snapshot?.type === "snapshot");
      const caughtUp = () => (all.batches.at(-1)?.revision ?? 0) >= snapshot.revision;
      await all.until("the same revision", 20_000, caughtUp);
      const expected = stateAt(all, snapshot.revision);
      assert.deepEqual(new Map(snapshot.entries.map((entry) => [entry.key, entry.value])), expected);
      assert.deepEqual(
        snapshot.entries.map(({ key }) => key),
        [...expected.keys()].toSorted(),
      );
    }
  });
});

/** What the watcher believed the prefix to hold at a revision. */
function stateAt(log: WatchLog, revision: number): Map<string, string> {
  const state = new Map<string, string>();
  for (const change of log.changes) {
    if (change.type === "put" && change.entry.modRevision <= revision) {
      state.set(change.entry.key, change.entry.value);
    }
    if (change.type === "delete" && change.revision <= revision) state.delete(change.key);
  }
  return state;
}
