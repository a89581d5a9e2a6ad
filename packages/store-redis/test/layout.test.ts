import assert from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startRedis, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

let server: TestServer;
let store: Store;

beforeAll(async () => {
  server = await startRedis({ appendonly: true });
  store = await openRedisStore(`redis://127.0.0.1:${server.port}`);
});

afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

describe("what redis-cli shows", () => {
  it("holds every value, and nothing else, in one hash under the prefix", async () => {
    await store.txn({
      then: [
        { put: "subnets/n1", value: '"172.20.0.0/24"' },
        { put: "nodes/n1", value: '{"status":"ready"}' },
      ],
    });
    assert.equal(await redisCli(server, "hget", "/cocoon-net", "subnets/n1"), '"172.20.0.0/24"');
    const all = JSON.parse(await redisCli(server, "--json", "hgetall", "/cocoon-net"));
    assert.deepEqual(all, { "subnets/n1": '"172.20.0.0/24"', "nodes/n1": '{"status":"ready"}' });
  });

  it("names all other keys by the prefix's hash tag, so that all are in one slot", async () => {
    await using session = await store.session(5_000);
    await store.txn({ then: [{ put: "alive/n1", value: "{}", session }] });
    const names = (await redisCli(server, "keys", "*")).split("\n").toSorted();
    const others = ["changes", "index", "sessions", "state", "tied"].map((name) => `{/cocoon-net}#${name}`);
    assert.deepEqual(names, ["/cocoon-net", ...others]);
  });

  it("keeps about as many changes as was asked for", async () => {
    await using bounded = await openRedisStore(`redis://127.0.0.1:${server.port}/bounded?history=100`);
    for (let turn = 0; turn < 500; turn += 1) await bounded.txn({ then: [{ put: "k", value: `${turn}` }] });
    const length = Number(await redisCli(server, "xlen", "{/bounded}#changes"));
    assert.ok(length >= 100 && length < 300, `${length} changes are kept`);
  });

  it("reads a value that was removed by hand as absent, and goes on", async () => {
    await store.txn({ then: [{ put: "by-hand", value: "1" }] });
    await redisCli(server, "hdel", "/cocoon-net", "by-hand");
    assert.equal((await store.get("by-hand")).entry, undefined);
    assert.deepEqual((await store.list("by-hand")).entries, []);
    const { succeeded, revision } = await store.txn({
      if: [{ key: "by-hand", exists: false }],
      then: [{ put: "by-hand", value: "2" }],
    });
    assert.equal(succeeded, true);
    assert.equal((await store.get("by-hand")).entry?.createRevision, revision);
    assert.equal((await store.list("by-hand")).entries.length, 1);
  });
});
