import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startRedis, type TestServer, until, WatchLog } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startRedis({ appendonly: true });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

const open = (prefix: string): Promise<Store> => openRedisStore(`redis://127.0.0.1:${server.port}${prefix}`);

/** A process of its own that opens a session, ties a key to it and stays. */
function holder(prefix: string, script: string): ChildProcess & Disposable {
  const child = spawn(
    process.execPath,
    ["--conditions=@cocoon-net/source", "--input-type=module", "--eval", script],
    { cwd: import.meta.dirname, env: { ...process.env, STORE: `redis://127.0.0.1:${server.port}${prefix}` } },
  );
  child.stderr?.on("data", (text) => process.stderr.write(text));
  return Object.assign(child, { [Symbol.dispose]: () => void child.kill("SIGKILL") });
}

const opening = `
import { openRedisStore } from "@cocoon-net/store-redis";
const store = await openRedisStore(process.env.STORE);
const session = await store.session(3_000);
await store.txn({ then: [{ put: "alive/n1", value: "{}", session }] });
`;

describe("sessions", () => {
  it("a watcher learns of a holder that was killed, though nobody else calls", async () => {
    await using watching = await open("/killed");
    await using log = new WatchLog(watching, "alive/");
    await log.until("the snapshot", 5_000, () => log.batches.length > 0);
    using child = holder("/killed", opening);
    await log.until("the key", 30_000, ({ state }) => state.has("alive/n1"));
    child.kill("SIGKILL");
    const killedAt = performance.now();
    await log.until("its end", 20_000, ({ state }) => !state.has("alive/n1"));
    const after = performance.now() - killedAt;
    // Its TTL is 3 s, which the server prolongs by its margin; it was renewed up to a third of it before the kill, on a
    // busy machine earlier.
    assert.ok(after > 500 && after < 15_000, `gone after ${Math.round(after)} ms`);
    assert.equal(await redisCli(server, "hget", "/killed", "alive/n1"), "");
    assert.equal(await redisCli(server, "zcard", "{/killed}#sessions"), "0");
  });

  it("a key of an expired session is not read, compared or listed, though nothing has removed it yet", async () => {
    using child = holder("/expired", opening);
    await until(
      "the key",
      30_000,
      async () => (await redisCli(server, "hget", "/expired", "alive/n1")) !== "",
    );
    child.kill("SIGKILL");
    const id = await redisCli(server, "zrange", "{/expired}#sessions", "0", "0");
    await until("the deadline to pass", 15_000, async () => {
      const deadline = Number(await redisCli(server, "zscore", "{/expired}#sessions", id));
      const [seconds = "0"] = (await redisCli(server, "time")).split("\n");
      return Number(seconds) * 1_000 > deadline;
    });
    assert.match(await redisCli(server, "hget", "{/expired}#blocks", "alive/n1"), new RegExp(` ${id}$`));
    await using reading = await open("/expired");
    const { succeeded, reads } = await reading.txn({
      if: [{ key: "alive/n1", exists: false }],
      then: [{ get: "alive/n1" }],
    });
    assert.equal(succeeded, true);
    assert.deepEqual(reads, [undefined]);
    assert.deepEqual((await reading.list("")).entries, []);
  });

  it("more keys than one call removes vanish before anyone reads some of them", async () => {
    await using store = await open("/many");
    const session = await store.session(5_000);
    for (let start = 0; start < 1_000; start += 100) {
      const puts = Array.from({ length: 100 }, (_, at) => ({ put: `k/${start + at}`, value: "", session }));
      await store.txn({ then: puts });
    }
    await using log = new WatchLog(store, "k/");
    await log.until("the snapshot", 5_000, ({ state }) => state.size === 1_000);
    await redisCli(server, "zadd", "{/many}#sessions", "XX", "1", session.id);
    assert.deepEqual((await store.list("")).entries, []);
    await log.until("every delete", 5_000, ({ state }) => state.size === 0);
    assert.equal(log.changes.length, 1_000);
    await until("the holder to know", 5_000, () => session.signal.aborted);
  });

  it("a key that was removed by hand and put again without the session outlives it", async () => {
    await using store = await open("/by-hand");
    const session = await store.session(5_000);
    await store.txn({ then: ["a", "b"].map((key) => ({ put: key, value: "1", session })) });
    await redisCli(server, "hdel", "/by-hand", "a", "b");
    await store.txn({ then: [{ put: "a", value: "2" }] });
    await session[Symbol.asyncDispose]();
    assert.deepEqual(
      (await store.list("")).entries.map(({ key, value }) => [key, value]),
      [["a", "2"]],
    );
    assert.equal(await redisCli(server, "zcard", "{/by-hand}#tied"), "0");
  });

  it("a process ends by itself once it has disposed its store", async () => {
    using child = holder(
      "/exits",
      `${opening}
      const stop = new AbortController();
      for await (const _ of store.watch("alive/", { signal: stop.signal })) break;
      // A consumer that has stopped asking must not keep the process either.
      await store.watch("", {})[Symbol.asyncIterator]().next();
      const watching = (async () => { for await (const _ of store.watch("", { signal: stop.signal })); })();
      await session[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await watching;
      `,
    );
    const [code] = await once(child, "exit", { signal: AbortSignal.timeout(30_000) });
    assert.equal(code, 0);
    assert.equal(await redisCli(server, "hget", "/exits", "alive/n1"), "");
  });
});
