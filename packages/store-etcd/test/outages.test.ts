import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Store, UnavailableError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, type TestServer, until } from "@cocoon-net/store-testkit";
import { AlarmAction, AlarmType, Etcd3 } from "etcd3";
import { describe, expect, it } from "vitest";
import { compact } from "./etcdctl.ts";
import { startTruncatingProxy } from "./truncating-proxy.ts";
import { WatchRecord } from "./watch-record.ts";

const urlOf = (server: { readonly port: number }) => `etcd://127.0.0.1:${server.port}`;

const put = (store: Store, key: string, value: string) => store.txn({ then: [{ put: key, value }] });

/** Milliseconds until the call fails. */
async function timeToFail(call: Promise<unknown>): Promise<number> {
  const start = performance.now();
  await expect(call).rejects.toBeInstanceOf(UnavailableError);
  return performance.now() - start;
}

describe("etcd outages", { timeout: 90_000 }, () => {
  it.concurrent("a stopped server ends calls at their deadline, and a watch goes on after it without a gap", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await put(store, "k/1", "before");
    server.pause();
    const times = await Promise.all([
      timeToFail(store.get("k/1", { timeoutMs: 500 })),
      timeToFail(put(store, "k/2", "maybe")),
      timeToFail(store.session(5_000, { timeoutMs: 700 })),
      timeToFail(store.incarnation({ timeoutMs: 700 })),
    ]);
    // 2 s at most where no deadline is given; keepalive would end them after 7 s.
    expect(Math.max(...times)).toBeLessThan(6_000);
    const opening = performance.now();
    await expect(openEtcdStore(urlOf(server))).rejects.toThrow(`127.0.0.1:${server.port}`);
    expect(performance.now() - opening).toBeLessThan(15_000);
    server.resume();
    await until("a write after it", 15_000, async () => (await put(store, "k/3", "after")).succeeded);
    // The write in doubt may have been applied meanwhile, before or after this one, or not.
    const told = () => [...new Set(watch.changes)].toSorted().join();
    await until("the watch to tell what is there", 15_000, async () => {
      const { entries } = await store.list("k/");
      return told() === entries.map(({ key, value }) => `${key}=${value}`).join();
    });
    expect(told()).toContain("k/3=after");
    expect(watch.snapshots).toBe(1);
  });

  it.concurrent("a killed server that comes back is used again at once, and a watch loses nothing", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    const incarnation = await store.incarnation();
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    const written: string[] = [];
    const delays: number[] = [];
    for (let round = 1; round <= 3; round += 1) {
      await put(store, "k/n", `${round}`);
      written.push(`k/n=${round}`);
      await server.stop("SIGKILL");
      await until("a write that certainly was not applied", 15_000, async () => {
        const failed: unknown = await put(store, "k/lost", "x").catch((error: unknown) => error);
        return failed instanceof UnavailableError && failed.outcome === "none";
      });
      await server.start();
      const startedAt = performance.now();
      // One whose answer did not come in time may have been applied: the next finds it.
      const done = { if: [{ key: "k/back", value: `${round}` }] };
      const back = { else: [{ put: "k/back", value: `${round}` }] };
      await until("a write", 15_000, () => store.txn({ ...done, ...back }));
      delays.push(performance.now() - startedAt);
      written.push(`k/back=${round}`);
    }
    // What waits too long by design does so each time; a busy machine may add to one.
    expect(Math.min(...delays)).toBeLessThan(2_000);
    await watch.until("all changes", 15_000, ({ changes }) => changes.length >= written.length);
    expect(watch.changes).toEqual(written);
    expect(await store.incarnation()).toBe(incarnation);
  });

  it.concurrent("a call on a connection that went dead ends by keepalive in 7 s, whatever its deadline", async () => {
    await using server = await startEtcd();
    await using proxy = await startFaultProxy({ target: server });
    await using store = await openEtcdStore(urlOf(proxy));
    await store.get("k");
    await proxy.blackhole();
    expect(
      await timeToFail(store.txn({ then: [{ put: "k", value: "v" }] }, { timeoutMs: 20_000 })),
    ).toBeLessThan(15_000);
  });

  // Catalogue 3. Guard: packages/store-etcd/src/watch.ts, watchPrefix: where history is gone the position is dropped,
  // and a snapshot comes.
  it("a watcher that missed compacted history gets a snapshot, then changes again", async () => {
    await using server = await startEtcd();
    await using proxy = await startFaultProxy({ target: server });
    await using direct = await openEtcdStore(urlOf(server));
    await using store = await openEtcdStore(urlOf(proxy));
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await put(direct, "k/1", "a");
    await watch.until("change", 15_000, ({ changes }) => changes.length === 1);
    await proxy.refuse();
    await put(direct, "k/1", "b");
    await direct.txn({ then: [{ delete: "k/1" }, { put: "k/2", value: "c" }] });
    await compact(server);
    await proxy.pass();
    await watch.until("second snapshot", 20_000, ({ snapshots }) => snapshots === 2);
    expect(watch.batches.at(-1)).toMatchObject({ type: "snapshot", entries: [{ key: "k/2", value: "c" }] });
    await put(direct, "k/3", "d");
    await watch.until("change after it", 15_000, ({ changes }) => changes.at(-1) === "k/3=d");
    expect(watch.changes).toEqual(["k/1=a", "k/3=d"]);
  });

  it("a second cut at any byte of the reconnect loses no event and repeats none", async () => {
    await using server = await startEtcd();
    await using direct = await openEtcdStore(urlOf(server));
    await using stack = new AsyncDisposableStack();
    const watchers = await Promise.all(
      Array.from({ length: 24 }, async (_, at) => {
        const proxy = stack.use(await startTruncatingProxy(server));
        const store = stack.use(await openEtcdStore(urlOf(proxy)));
        const watch = stack.use(new WatchRecord(store, "k/"));
        await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
        return { proxy, watch, bytes: 20 * at };
      }),
    );
    // The first new connection is for calls, the second for the watch: handshake, "created" and the backlog
    // are through after about 30, 126 and 320 bytes.
    for (const { proxy, bytes } of watchers) proxy.breakTwice(1, bytes);
    const written: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      await put(direct, `k/${n}`, "1");
      written.push(`k/${n}=1`);
    }
    for (const { watch, bytes } of watchers) {
      await watch.until(`all changes after ${bytes} bytes`, 20_000, ({ changes }) => changes.length >= 5);
      expect(watch.changes, `cut after ${bytes} bytes`).toEqual(written);
      expect(watch.snapshots).toBe(1);
    }
  });

  it("a server that restarts without its data is another incarnation, and watchers get a snapshot", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    const incarnation = await store.incarnation();
    await put(store, "k/1", "a");
    await put(store, "k/1", "b");
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await server.stop("SIGKILL");
    await rm(join(server.dataDir, "member"), { recursive: true });
    await server.start();
    await watch.until("the new snapshot", 20_000, ({ snapshots }) => snapshots === 2);
    expect(watch.batches.at(-1)).toMatchObject({ type: "snapshot", entries: [] });
    expect(await store.incarnation()).not.toBe(incarnation);
    expect(await store.incarnation()).toBe(await store.incarnation());
  });

  it("a backlog larger than a frame comes in whole revisions", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    const value = "x".repeat(150_000);
    const { revision: start } = await store.get("k/0");
    for (let round = 0; round < 6; round += 1) {
      await store.txn({
        then: Array.from({ length: 8 }, (_, n) => ({ put: `k/${n}`, value: `${round}${value}` })),
      });
    }
    await using watch = new WatchRecord(store, "k/", { fromRevision: start });
    await watch.until("the backlog", 20_000, ({ changes }) => changes.length === 48);
    expect(watch.batches.map((batch) => batch.type === "changes" && batch.changes.length)).toEqual(
      Array.from({ length: 6 }, () => 8),
    );
  });

  it("a consumer that falls behind further than is kept for it still gets every change", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    const stop = new AbortController();
    const watch = store.watch("k/", { signal: stop.signal })[Symbol.asyncIterator]();
    await watch.next();
    const first = watch.next();
    const rounds = 150;
    for (let round = 0; round < rounds; round += 1) {
      await store.txn({
        then: Array.from({ length: 100 }, (_, n) => ({ put: `k/${n}`, value: `${round}` })),
      });
    }
    const seen: unknown[] = [];
    for (let batch = await first; seen.length < rounds; batch = await watch.next()) {
      const { changes } = batch.value as { changes: { entry: { value: string } }[] };
      expect(changes).toHaveLength(100);
      seen.push(changes[0]?.entry.value);
      if (seen.length === rounds) break;
    }
    stop.abort();
    expect(seen).toEqual(Array.from({ length: rounds }, (_, round) => `${round}`));
    expect((await watch.next()).done).toBe(true);
  });

  it("a cluster whose members disagree says so, and is used again when it was repaired", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(urlOf(server));
    const raw = new Etcd3({ hosts: `http://127.0.0.1:${server.port}` });
    try {
      const { header } = await raw.maintenance.status();
      const alarm = { memberID: header.member_id, alarm: AlarmType.Corrupt };
      await raw.maintenance.alarm({ action: AlarmAction.Activate, ...alarm });
      const problem = { outcome: "none", hint: expect.stringContaining("alarm disarm") };
      await expect(put(store, "k", "v")).rejects.toMatchObject(problem);
      await using another = await openEtcdStore(urlOf(server));
      expect(another.capabilities).toMatchObject({
        trustworthy: false,
        durability: expect.stringContaining("disagree"),
      });
      await raw.maintenance.alarm({ action: AlarmAction.Deactivate, ...alarm });
    } finally {
      raw.close();
    }
    await put(store, "k", "v");
    expect(store.capabilities.trustworthy).toBe(true);
  });

  // Catalogue 28. Guard: packages/store-etcd/src/errors.ts, toCocoonError: NOSPACE is no outage.
  it("a full server says so", async () => {
    await using server: TestServer = await startEtcd({ extraArgs: ["--quota-backend-bytes", "2000000"] });
    await using store = await openEtcdStore(urlOf(server));
    const value = "x".repeat(500_000);
    // It learns its size when it commits, every 100 ms: a fast machine has put far more by then.
    const fill = async () => {
      for (let n = 0; n < 400; n += 1) await put(store, `k/${n}`, value);
    };
    await expect(fill()).rejects.toMatchObject({
      code: "exhausted",
      hint: expect.stringContaining("alarm disarm"),
    });
    expect((await store.get("k/0")).entry?.value).toBe(value);
  });
});
