import assert from "node:assert/strict";
import { InvalidError, type Store } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { pairs } from "../watch-log.ts";
import { put, putMany } from "../writing.ts";

export const reads: CheckGroup = {
  name: "reads and pages",
  checks: [
    {
      name: "an absent key reads as undefined, at some revision",
      async run(bench) {
        const store = await bench.open();
        const { entry, revision } = await store.get("nothing");
        assert.equal(entry, undefined);
        assert.ok(Number.isSafeInteger(revision) && revision >= 0, `revision ${revision}`);
      },
    },
    {
      name: "a key is read back with the revisions of its writes",
      async run(bench) {
        const store = await bench.open();
        const first = await put(store, "k", "one");
        assert.deepEqual((await store.get("k")).entry, {
          key: "k",
          value: "one",
          createRevision: first,
          modRevision: first,
        });
        const second = await put(store, "k", "two");
        assert.ok(second > first, `revision ${second} comes after ${first}`);
        assert.deepEqual((await store.get("k")).entry, {
          key: "k",
          value: "two",
          createRevision: first,
          modRevision: second,
        });
        await store.txn({ then: [{ delete: "k" }] });
        assert.equal((await store.get("k")).entry, undefined);
        const third = await put(store, "k", "two");
        assert.equal(
          (await store.get("k")).entry?.createRevision,
          third,
          "a key made anew has a new createRevision",
        );
      },
    },
    {
      name: "a write is seen by the next read of any handle",
      async run(bench) {
        const [writer, reader] = [await bench.open(), await bench.open()];
        const observer = writer.capabilities.linearizable ? reader : writer;
        for (let turn = 0; turn < 20; turn += 1) {
          const revision = await put(writer, "k", `${turn}`);
          const got = await observer.get("k");
          assert.equal(got.entry?.value, `${turn}`);
          assert.ok(got.revision >= revision, `read at ${got.revision} after a write at ${revision}`);
          const listed = await observer.list("");
          assert.deepEqual(pairs(listed.entries), [`k=${turn}`]);
          assert.ok(listed.revision >= revision, `listed at ${listed.revision} after a write at ${revision}`);
        }
      },
    },
    {
      name: "keys and values come back character for character",
      async run(bench) {
        const store = await bench.open();
        const keys = [
          "plain",
          "with space",
          "a*b?c[d]e",
          "{tag}",
          "back\\slash",
          "per%20cent",
          "ключ",
          "😀",
          "q'\"",
          "a/b//c",
        ];
        const values = ["", " ", '{"a":"b\\n"}', "line\nline\r\n", "\u0000\u0001", "ключ 😀", "-1", "null"];
        const written = keys.map((key, at): [string, string] => [
          `odd/${key}`,
          values[at % values.length] ?? "",
        ]);
        await putMany(store, written);
        for (const [key, value] of written) {
          const { entry } = await store.get(key);
          assert.equal(entry?.key, key);
          assert.equal(entry?.value, value);
          assert.deepEqual(pairs((await store.list(key)).entries), [`${key}=${value}`]);
        }
        assert.equal((await store.list("odd/")).entries.length, keys.length);
        assert.deepEqual((await store.list("odd/*")).entries, [], "a prefix is no pattern");
      },
    },
    {
      name: "a list holds exactly the keys of its prefix, in byte order",
      async run(bench) {
        const store = await bench.open();
        const inside = ["l/", "l/Z", "l/a", "l/a/b", "l/a0", "l/é", "l/\uffee", "l/😀"];
        const outside = ["l", "k/z", "l.", "l0", "m/a"];
        await putMany(
          store,
          [...inside, ...outside].toReversed().map((key) => [key, key]),
        );
        const sorted = inside.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        const listed = await store.list("l/");
        assert.deepEqual(
          listed.entries.map((entry) => entry.key),
          sorted,
        );
        assert.equal(listed.next, undefined);
        assert.equal((await store.list("")).entries.length, inside.length + outside.length);
        assert.deepEqual(await keysOf(store, "nothing/"), []);
      },
    },
    {
      name: "pages join to the whole, without overlap",
      async run(bench) {
        const store = await bench.open();
        const keys = Array.from({ length: 25 }, (_, at) => `p/${String(at).padStart(3, "0")}`);
        await putMany(
          store,
          keys.map((key) => [key, "v"]),
        );
        for (const limit of [1, 5, 7, 24, 25, 26]) {
          const pages: string[][] = [];
          let after: string | undefined;
          do {
            const page = await store.list("p/", after === undefined ? { limit } : { limit, after });
            pages.push(page.entries.map((entry) => entry.key));
            after = page.next;
          } while (after !== undefined && pages.length <= keys.length);
          assert.deepEqual(pages.flat(), keys, `pages of ${limit}`);
          assert.equal(pages.length, Math.ceil(keys.length / limit), `number of pages of ${limit}`);
        }
        await assert.rejects(store.list("p/", { limit: 0 }), InvalidError);
      },
    },
    {
      name: "a list without a limit holds 1,000 entries",
      async run(bench) {
        const store = await bench.open();
        const keys = Array.from({ length: 1_001 }, (_, at) => `m/${String(at).padStart(5, "0")}`);
        await putMany(
          store,
          keys.map((key) => [key, ""]),
        );
        const page = await store.list("m/");
        assert.equal(page.entries.length, 1_000);
        assert.equal(page.next, keys[999]);
        assert.deepEqual(await keysOf(store, "m/", { after: keys[999] ?? "" }), [keys[1_000]]);
      },
    },
    {
      name: "pages of one listing stay true while others write",
      async run(bench) {
        const [store, writer] = [await bench.open(), await bench.open()];
        const keys = Array.from({ length: 12 }, (_, at) => `p/${String(at).padStart(3, "0")}`);
        await putMany(
          store,
          keys.map((key) => [key, "old"]),
        );
        const first = await store.list("p/", { limit: 4 });
        await writer.txn({
          then: [
            { delete: "p/001" },
            { delete: "p/009" },
            { put: "p/0045", value: "new" },
            { put: "p/010", value: "new" },
          ],
        });
        const rest: string[] = [];
        for (let after = first.next; after !== undefined && rest.length <= keys.length; ) {
          const page = await store.list("p/", { limit: 4, after, revision: first.revision });
          rest.push(...pairs(page.entries));
          if (store.capabilities.pinnedReads)
            assert.equal(page.revision, first.revision, "a pinned page's revision");
          after = page.next;
        }
        const old = keys.slice(4).map((key) => `${key}=old`);
        const now = ["p/004=old", "p/0045=new", ...old.slice(1, 5), "p/010=new", "p/011=old"];
        const expected = store.capabilities.pinnedReads ? old : now;
        assert.deepEqual(rest, expected);
      },
    },
    {
      name: "a page at a revision that the store has not reached is refused",
      async run(bench) {
        const store = await bench.open();
        if (!store.capabilities.pinnedReads) return;
        const revision = await put(store, "p/a", "1");
        assert.deepEqual(pairs((await store.list("p/", { revision })).entries), ["p/a=1"]);
        for (const wrong of [revision + 1_000_000, 0, -1, Number.NaN]) {
          await assert.rejects(store.list("p/", { revision: wrong }), InvalidError, `revision ${wrong}`);
        }
      },
    },
    {
      name: "values are taken up to the stated length",
      async run(bench) {
        const store = await bench.open();
        // A backend without a practical limit is not filled to prove it.
        const length = Math.min(store.capabilities.maxValueBytes, 2_097_152);
        await put(store, "big", "x".repeat(length));
        assert.equal((await store.get("big")).entry?.value.length, length);
        if (length < store.capabilities.maxValueBytes) return;
        await assert.rejects(put(store, "bigger", "x".repeat(length + 1)), InvalidError);
        // Bytes count, not characters.
        await assert.rejects(put(store, "bigger", "é".repeat(Math.floor(length / 2) + 1)), InvalidError);
        assert.equal((await store.get("bigger")).entry, undefined);
      },
    },
  ],
};

async function keysOf(store: Store, prefix: string, options: { after?: string } = {}): Promise<string[]> {
  return (await store.list(prefix, options)).entries.map((entry) => entry.key);
}
