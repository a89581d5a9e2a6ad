import assert from "node:assert/strict";
import type { Change, Store } from "@cocoon-net/core";
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
  it("holds every value in one hash under the prefix, and its revisions in another", async () => {
    const [first, second] = ['"172.20.0.0/24"', '{"status":"ready"}'];
    const made = await store.txn({
      then: [
        { put: "subnets/n1", value: first },
        { put: "nodes/n1", value: "{}" },
      ],
    });
    const changed = await store.txn({ then: [{ put: "nodes/n1", value: second }] });
    const all = JSON.parse(await redisCli(server, "--json", "hgetall", "/cocoon-net"));
    assert.deepEqual(all, { "subnets/n1": first, "nodes/n1": second });
    const blocks = JSON.parse(await redisCli(server, "--json", "hgetall", "{/cocoon-net}#blocks"));
    assert.deepEqual(blocks, {
      "subnets/n1": `${made.revision} ${made.revision} 1`,
      "nodes/n1": `${made.revision} ${changed.revision} 1`,
    });
  });

  it("holds leases by blocks of neighbouring addresses, and tells of changes by block too", async () => {
    const put = (octet: number, value: string) => ({ put: `pool/10.0.0.${octet}`, value });
    const made = await store.txn({ then: [put(1, "one"), put(100, "hundred"), put(10, "ten")] });
    const remove = { delete: "pool/10.0.0.100" };
    const changed = await store.txn({ then: [put(11, "eleven"), remove, put(10, "TEN")] });
    // redis-cli takes no NUL.
    const shown = (what: string) =>
      redisCli(server, "eval", `local text = ${what} return (string.gsub(text, '\\255', '|'))`, "0");
    const block = "'pool/10.0.0.0\\0'";
    assert.equal(await shown(`redis.call('HGET', '/cocoon-net', ${block})`), "one|TEN|eleven");
    // A bit each, in byte order: 0, 1, 10, 100 to 109, 11.
    const [then, now] = [made.revision, changed.revision];
    const put10And11 = `${then} ${now} ${1 << 2},${now} ${now} ${1 << 13}`;
    assert.equal(
      await shown(`redis.call('HGET', '{/cocoon-net}#blocks', ${block})`),
      `${then} ${then} ${1 << 1},${put10And11}`,
    );
    const entry = `redis.call('XREVRANGE', '{/cocoon-net}#changes', '+', '-', 'COUNT', 1)[1][2]`;
    const told = await shown(`string.gsub(table.concat(${entry}, ';'), '%z', '*')`);
    assert.match(told, /^stamp;[\d.]+;delete;pool\/10\.0\.0\.0\*\|8;pool\/10\.0\.0\.0\*\|.*;TEN\|eleven$/);
    assert.ok(told.includes(`|${put10And11};`), told);
  });

  it("names all other keys by the prefix's hash tag, so that all are in one slot", async () => {
    await using session = await store.session(60_000);
    await store.txn({ then: [{ put: "alive/n1", value: "{}", session }] });
    const names = (await redisCli(server, "keys", "*")).split("\n").toSorted();
    const others = ["blocks", "changes", "index", "sessions", "state", "tied"].map(
      (name) => `{/cocoon-net}#${name}`,
    );
    assert.deepEqual(names, ["/cocoon-net", ...others]);
  });

  it.each([1, 100])("keeps about as many changes as was asked for, %i of them at a time", async (size) => {
    const prefix = `/bounded-by-${size}`;
    await using bounded = await openRedisStore(
      `redis://127.0.0.1:${server.port}${prefix}?history=${size * 100}`,
    );
    for (let turn = 0; turn < 500; turn += 1) {
      const keys = Array.from({ length: size }, (_, at) => `k/${at}`);
      await bounded.txn({ then: keys.map((put) => ({ put, value: `${turn}` })) });
    }
    const transactions = Number(await redisCli(server, "xlen", `{${prefix}}#changes`));
    assert.ok(transactions >= 100 && transactions < 300, `${transactions} transactions are kept`);
  });

  it("gives back every text as it was put, to reads, lists and watches", async () => {
    const values = ["", " ", "1 2 3", "\n", "\0", "\u007f\u0080\u00ff\u0100\uffff\u{10ffff}", "@"];
    const put = new Map(values.map((value, at) => [`text/${at}/${value.replaceAll("\0", "")}`, value]));
    const { revision } = await store.txn({ then: [...put].map(([key, value]) => ({ put: key, value })) });
    const { reads } = await store.txn({ then: [...put.keys()].map((key) => ({ get: key })) });
    const { entries } = await store.list("text/");
    for (const found of [reads, entries]) {
      assert.deepEqual(new Map(found.map((entry) => [entry?.key, entry?.value])), put);
    }
    await store.txn({ then: [...put.keys()].map((key) => ({ delete: key })) });
    const stop = new AbortController();
    const changes: Change[] = [];
    for await (const batch of store.watch("text/", { fromRevision: revision - 1, signal: stop.signal })) {
      if (batch.type === "changes") changes.push(...batch.changes);
      if (changes.length === 2 * put.size) stop.abort();
    }
    assert.deepEqual(
      new Map(
        changes.flatMap((change) => (change.type === "put" ? [[change.entry.key, change.entry.value]] : [])),
      ),
      put,
    );
    assert.deepEqual(
      changes.flatMap((change) => (change.type === "delete" ? [change.key] : [])),
      [...put.keys()],
    );
  });

  it("reads a value that was written by hand as if it had been there from the start, until it is put", async () => {
    await redisCli(server, "hset", "/cocoon-net", "written", "mine");
    const entry = { key: "written", value: "mine", createRevision: 1, modRevision: 1 };
    assert.deepEqual((await store.get("written")).entry, entry);
    const then = [{ put: "written", value: "theirs" }];
    assert.equal((await store.txn({ if: [{ key: "written", exists: false }], then })).succeeded, false);
    const written = await store.txn({ if: [{ key: "written", modRevision: 1 }], then });
    assert.equal(written.succeeded, true);
    const revisions = { createRevision: written.revision, modRevision: written.revision };
    assert.deepEqual((await store.get("written")).entry, { ...entry, ...revisions, value: "theirs" });
    assert.deepEqual(
      (await store.list("written")).entries.map(({ value }) => value),
      ["theirs"],
    );
  });

  it("reads a value that was removed by hand as absent, and goes on", async () => {
    await store.txn({ then: [{ put: "by-hand", value: "1" }] });
    await redisCli(server, "hdel", "/cocoon-net", "by-hand");
    assert.equal((await store.get("by-hand")).entry, undefined);
    assert.deepEqual((await store.list("by-hand")).entries, []);
    const { succeeded } = await store.txn({
      if: [{ key: "by-hand", exists: false }],
      then: [{ put: "by-hand", value: "2" }],
    });
    assert.equal(succeeded, true);
    assert.equal((await store.list("by-hand")).entries.length, 1);
  });

  it("reads all keys of a block that was removed by hand as absent, and goes on", async () => {
    const put = (octet: number) => ({ put: `moved/10.0.0.${octet}`, value: `${octet}` });
    await store.txn({ then: [put(1), put(10), put(100)] });
    await redisCli(server, "eval", "return redis.call('HDEL', '/cocoon-net', 'moved/10.0.0.0\\0')", "0");
    assert.equal((await store.get("moved/10.0.0.10")).entry, undefined);
    assert.deepEqual((await store.list("moved/")).entries, []);
    await store.txn({ then: [put(10)] });
    const values = async () => (await store.list("moved/")).entries.map(({ value }) => value);
    assert.deepEqual(await values(), ["10"]);
    await redisCli(server, "eval", "return redis.call('HDEL', '/cocoon-net', 'moved/10.0.0.0\\0')", "0");
    await store.txn({ then: [put(1), { delete: put(10).put }] });
    assert.deepEqual(await values(), ["1"]);
  });

  it("says which field has not as many values as keys, as it was changed by hand", async () => {
    const put = (octet: number) => ({ put: `moved/10.0.1.${octet}`, value: `${octet}` });
    for (const text of ["1", "1\\2552\\2553"]) {
      await store.txn({ then: [put(1), put(10), put(101), put(12), put(127)] });
      const field = `'/cocoon-net', 'moved/10.0.1.0\\0', '${text}'`;
      await redisCli(server, "eval", `return redis.call('HSET', ${field})`, "0");
      await assert.rejects(
        store.list("moved/10.0.1."),
        /"moved\/10\.0\.1\.0\\u0000" are not those of its keys/,
      );
      await redisCli(server, "eval", "return redis.call('HDEL', '/cocoon-net', 'moved/10.0.1.0\\0')", "0");
    }
    assert.deepEqual(
      (await store.list("moved/10.0.1.")).entries.map(({ value }) => value),
      ["127"],
    );
  });
});
