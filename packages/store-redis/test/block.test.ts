import assert from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startRedis, type TestServer, WatchLog } from "@cocoon-net/store-testkit";
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "vitest";
import { blocksAround, forEachKey, placeOf } from "../src/block.ts";
import { compareKeys } from "../src/layout.ts";

const octet = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 9, 10, 25, 99, 100, 255));
/** What ends in an octet, what looks like it, and what stands between such keys. */
const key = fc
  .tuple(
    fc.constantFrom("pool/10.0.0.", "pool/10.0.", "a.", "."),
    fc.oneof(
      octet.map(String),
      fc.tuple(octet, fc.constantFrom("/24", "x", ".", "-1")).map(([at, end]) => at + end),
      fc.constantFrom("", "01", "256", "é", "\uffff", "\u{1f600}"),
    ),
  )
  .map(([stem, end]) => stem + end);
const keySet = fc.uniqueArray(key, { maxLength: 30 });

describe("blocks", () => {
  it("hold a key once, in byte order, and are not named beyond it", () => {
    fc.assert(
      fc.property(key, (one) => {
        const { block, bit } = placeOf(one);
        const keys: string[] = [];
        forEachKey(block, [{ created: 1, modified: 1, mask: -1 }], (each) => keys.push(each));
        assert.deepEqual(keys, keys.toSorted(compareKeys));
        assert.ok(compareKeys(block.replace("\0", ""), one) <= 0);
        const only: string[] = [];
        forEachKey(block, [{ created: 1, modified: 1, mask: bit }], (each) => only.push(each));
        assert.deepEqual(only, [one]);
      }),
    );
  });

  it("that hold keys beyond another key although their names are not, are around it", () => {
    fc.assert(
      fc.property(key, key, (one, other) => {
        const { block } = placeOf(one);
        const isAround = compareKeys(one, other) > 0 && compareKeys(block, `${other}\0`) <= 0;
        if (isAround && block !== one) assert.ok(blocksAround(other).includes(block));
      }),
    );
  });
});

describe("keys that share blocks", () => {
  let server: TestServer;
  let store: Store;

  beforeAll(async () => {
    server = await startRedis();
    store = await openRedisStore(`redis://127.0.0.1:${server.port}`);
  });

  afterAll(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  it("are read, listed and watched like any others, by pages of any length, from any key, under any prefix", async () => {
    await using logs = new AsyncDisposableStack();
    const prefixes = ["", "pool/10.0.0.1", "pool/10.0.0.127"];
    const watched = prefixes.map((prefix) => [prefix, logs.use(new WatchLog(store, prefix))] as const);
    for (const [, log] of watched)
      await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    await fc.assert(
      fc.asyncProperty(
        keySet,
        keySet,
        key,
        key,
        fc.integer({ min: 1, max: 9 }),
        async (first, second, ...rest) => {
          const [after, prefix, limit] = rest;
          const { entries: before } = await store.list("");
          const revisions = new Map<string, readonly [number, number]>();
          const values = new Map<string, string>();
          const put = async (keys: readonly string[], deletes: readonly string[]) => {
            for (const key of keys) values.set(key, `${values.get(key) ?? ""}${key}`);
            const then = [
              ...keys.map((put) => ({ put, value: values.get(put) ?? "" })),
              ...deletes.map((key) => ({ delete: key })),
            ];
            const { revision } = await store.txn({ then });
            for (const key of deletes) revisions.delete(key);
            for (const key of keys) revisions.set(key, [revisions.get(key)?.[0] ?? revision, revision]);
          };
          await put(
            [],
            before.map((entry) => entry.key),
          );
          await put(first, []);
          await put(
            second,
            first.filter((key, at) => at % 3 === 0 && !second.includes(key)),
          );
          const { reads } = await store.txn({ then: [...values.keys()].map((get) => ({ get })) });
          assert.deepEqual(
            reads.map((entry) => entry?.value),
            [...values].map(([key, value]) => (revisions.has(key) ? value : undefined)),
          );
          for (const under of ["", "pool/10.0.0.1", prefix]) {
            const wanted = [...revisions.keys()].filter((key) => key.startsWith(under)).sort(compareKeys);
            const found: unknown[] = [];
            let next: string | undefined = "";
            while (next !== undefined) {
              const page = await store.list(under, { limit, after: next });
              assert.ok(page.next === undefined || compareKeys(page.next, next) > 0);
              assert.ok(page.entries.length <= limit);
              for (const { key, value, createRevision, modRevision } of page.entries) {
                assert.equal(value, values.get(key));
                found.push([key, createRevision, modRevision]);
              }
              next = page.next;
            }
            assert.deepEqual(
              found,
              wanted.map((key) => [key, ...(revisions.get(key) ?? [])]),
            );
            const beyond = await store.list(under, { after });
            assert.deepEqual(
              beyond.entries.map((entry) => entry.key),
              wanted.filter((key) => compareKeys(key, after) > 0),
            );
          }
        },
      ),
      { numRuns: 60 },
    );
    await store.txn({ then: prefixes.slice(1).map((put) => ({ put, value: "the last" })) });
    await store.txn({ then: prefixes.map((prefix) => ({ put: `${prefix}!`, value: "the end" })) });
    const { entries } = await store.list("");
    const all = new Map(entries.map(({ key, value }) => [key, value]));
    for (const [prefix, log] of watched) {
      await log.until("the end", 10_000, ({ state }) => state.has(`${prefix}!`));
      const wanted = new Map([...all].filter(([key]) => key.startsWith(prefix)));
      assert.deepEqual(log.state, wanted);
      assert.ok(
        log.changes.every((change) => ("key" in change ? change.key : change.entry.key).startsWith(prefix)),
      );
      assert.ok(log.batches.every((batch) => batch.type === "snapshot" || batch.changes.length > 0));
    }
  });

  it("hang on sessions one by one", async () => {
    const [one, other] = [await store.session(60_000), await store.session(60_000)];
    const at = (octet: number) => `alive/10.0.0.${octet}`;
    await store.txn({
      then: [
        { put: at(100), value: "one", session: one },
        { put: at(101), value: "other", session: other },
        { put: at(102), value: "one", session: one },
        { put: at(103), value: "nobody" },
      ],
    });
    await store.txn({ then: [{ put: at(102), value: "nobody" }] });
    await one[Symbol.asyncDispose]();
    const left = async () => (await store.list("alive/")).entries.map((entry) => entry.key);
    assert.deepEqual(await left(), [at(101), at(102), at(103)]);
    await other[Symbol.asyncDispose]();
    assert.deepEqual(await left(), [at(102), at(103)]);
  });
});
