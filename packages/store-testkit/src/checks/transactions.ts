import assert from "node:assert/strict";
import {
  type Compare,
  type Entry,
  InvalidError,
  type Operation,
  type Store,
  type TxnRequest,
} from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { summary, WatchLog } from "../watch-log.ts";
import { patient, put } from "../writing.ts";

export const transactions: CheckGroup = {
  name: "transactions",
  checks: [
    {
      name: "each comparison holds exactly when it is true",
      async run(bench) {
        const store = await bench.open();
        const created = await put(store, "here", "old");
        const modified = await put(store, "here", "new");
        const cases: [Compare, boolean][] = [
          [{ key: "here", exists: true }, true],
          [{ key: "here", exists: false }, false],
          [{ key: "here", createRevision: created }, true],
          [{ key: "here", createRevision: modified }, false],
          [{ key: "here", modRevision: modified }, true],
          [{ key: "here", modRevision: created }, false],
          [{ key: "here", value: "new" }, true],
          [{ key: "here", value: "old" }, false],
          [{ key: "here", value: "" }, false],
          [{ key: "here", value: "new " }, false],
          [{ key: "gone", exists: true }, false],
          [{ key: "gone", exists: false }, true],
          [{ key: "gone", createRevision: created }, false],
          [{ key: "gone", modRevision: modified }, false],
          // An absent key has no revision, not the revision 0.
          [{ key: "gone", createRevision: 0 }, false],
          [{ key: "gone", modRevision: 0 }, false],
          [{ key: "here", createRevision: 0 }, false],
          [{ key: "here", modRevision: 0 }, false],
          [{ key: "gone", value: "new" }, false],
          [{ key: "gone", value: "" }, false],
        ];
        for (const [compare, expected] of cases) {
          const { succeeded } = await store.txn({ if: [compare] });
          assert.equal(succeeded, expected, JSON.stringify(compare));
        }
      },
    },
    {
      name: "all comparisons must hold, several about one key too",
      async run(bench) {
        const store = await bench.open();
        const revision = await put(store, "k", "v");
        const good: Compare[] = [
          { key: "k", exists: true },
          { key: "k", value: "v" },
          { key: "k", modRevision: revision },
          { key: "none", exists: false },
        ];
        assert.equal((await store.txn({ if: good })).succeeded, true);
        for (const at of good.keys()) {
          const bad = good.with(at, { key: at % 2 === 0 ? "k" : "none", value: "wrong" });
          assert.equal((await store.txn({ if: bad })).succeeded, false, `with comparison ${at} wrong`);
        }
      },
    },
    {
      name: "only the branch that was chosen is applied",
      async run(bench) {
        const store = await bench.open();
        const branches = {
          then: [{ put: "then", value: "1" }],
          else: [{ put: "else", value: "1" }],
        };
        assert.equal((await store.txn({ ...branches })).succeeded, true, "without a comparison");
        assert.equal((await store.get("else")).entry, undefined);
        await store.txn({ then: [{ delete: "then" }] });
        const result = await store.txn({ if: [{ key: "then", exists: true }], ...branches });
        assert.equal(result.succeeded, false);
        assert.equal((await store.get("then")).entry, undefined);
        assert.equal((await store.get("else")).entry?.modRevision, result.revision);
        assert.equal((await store.txn({})).succeeded, true, "an empty transaction");
      },
    },
    {
      name: "of several steps the first whose comparisons hold is applied, and no other",
      async run(bench) {
        const store = await bench.open();
        await put(store, "seen", "yes");
        const request = (present: string, changes: string): TxnRequest => ({
          if: [{ key: "first", exists: true }],
          then: [{ put: "ran", value: "0" }, { get: "first" }],
          or: [
            {
              if: [
                { key: "second", exists: true },
                { key: "seen", value: "yes" },
              ],
              then: [{ put: changes, value: present }, { get: "second" }, { get: changes }],
            },
            { if: [{ key: "third", exists: true }], then: [{ delete: "third" }, { get: "seen" }] },
          ],
          else: [{ put: "last", value: present }, { get: "seen" }, { get: "first" }],
        });
        const none = await store.txn(request("none", "second"));
        assert.deepEqual([none.succeeded, none.step, values(none.reads)], [false, 3, ["yes", undefined]]);
        assert.equal((await store.get("last")).entry?.modRevision, none.revision);
        await put(store, "third", "3");
        await put(store, "second", "2");
        const second = await store.txn(request("new", "second"));
        assert.deepEqual([second.succeeded, second.step, values(second.reads)], [true, 1, ["2", "2"]]);
        const { entry } = await store.get("second");
        assert.deepEqual([entry?.value, entry?.modRevision], ["new", second.revision]);
        assert.equal((await store.get("third")).entry?.value, "3", "a later step was applied too");
        await store.txn({ then: [{ delete: "second" }] });
        const third = await store.txn(request("", "second"));
        assert.deepEqual([third.succeeded, third.step, values(third.reads)], [true, 2, ["yes"]]);
        assert.equal((await store.get("third")).entry, undefined);
        assert.equal((await store.get("ran")).entry, undefined);
        await put(store, "first", "1");
        const first = await store.txn(request("", "second"));
        assert.deepEqual([first.succeeded, first.step, values(first.reads)], [true, 0, ["1"]]);
        assert.equal((await store.get("last")).entry?.modRevision, none.revision, "`else` ran again");
      },
    },
    {
      name: "all steps together are within the limit, and no longer",
      async run(bench) {
        const store = await bench.open();
        const { maxOperations } = store.capabilities;
        const absent = (count: number): Compare[] =>
          Array.from({ length: count }, (_, index) => ({ key: `absent-${index}`, exists: true }));
        const reads = (count: number): Operation[] =>
          Array.from({ length: count }, (_, index) => ({ get: `absent-${index}` }));
        const request = (first: number, second: number): TxnRequest => ({
          ...{ if: absent(first), or: [{ if: absent(second) }], else: reads(second) },
        });
        const half = Math.floor(maxOperations / 2);
        const { step, reads: found } = await store.txn(request(half, maxOperations - half));
        assert.deepEqual([step, found.length], [2, maxOperations - half]);
        await assert.rejects(store.txn(request(half + 1, maxOperations - half)), InvalidError);
      },
    },
    {
      name: "reads come back in order, as things were before the branch's writes",
      async run(bench) {
        const store = await bench.open();
        await put(store, "a", "1");
        await put(store, "b", "2");
        const operations: Operation[] = [
          { put: "a", value: "new" },
          { get: "b" },
          { get: "a" },
          { delete: "b" },
          { get: "absent" },
          { get: "b" },
        ];
        const then = await store.txn({ then: operations });
        assert.deepEqual(values(then.reads), ["2", "1", undefined, "2"]);
        assert.equal((await store.get("a")).entry?.value, "new");
        assert.equal((await store.get("b")).entry, undefined);
        const other = await store.txn({
          if: [{ key: "a", exists: false }],
          then: [{ get: "absent" }],
          else: [{ get: "a" }, { put: "a", value: "newer" }, { get: "a" }],
        });
        assert.equal(other.succeeded, false);
        assert.deepEqual(values(other.reads), ["new", "new"]);
        assert.equal(other.reads[0]?.modRevision, then.revision);
      },
    },
    {
      name: "all writes of one transaction share its revision",
      async run(bench) {
        const store = await bench.open();
        await put(store, "old", "x");
        const before = (await store.get("old")).revision;
        const { revision } = await store.txn({
          then: [
            { put: "a", value: "1" },
            { put: "b", value: "2" },
            { put: "old", value: "y" },
            { delete: "absent" },
          ],
        });
        assert.ok(revision > before, `revision ${revision} comes after ${before}`);
        for (const entry of (await store.list("")).entries)
          assert.equal(entry.modRevision, revision, entry.key);
      },
    },
    {
      name: "putting the same value again is a change, deleting what is absent is none",
      async run(bench) {
        const store = await bench.open();
        const first = await put(store, "k", "v");
        const log = bench.use(new WatchLog(store, "", { fromRevision: first }));
        const second = await put(store, "k", "v");
        assert.ok(second > first, `revision ${second} comes after ${first}`);
        assert.equal((await store.get("k")).entry?.modRevision, second);
        await store.txn({ then: [{ delete: "absent" }] });
        await put(store, "last", "");
        await log.until("the last change", 15_000, () => log.changes.length >= 2);
        assert.deepEqual(summary(log.changes), ["k=v", "last="]);
      },
    },
    {
      name: "writing one key twice in a branch is refused, and nothing of it is applied",
      async run(bench) {
        const store = await bench.open();
        const twice: Operation[][] = [
          [
            { put: "k", value: "1" },
            { put: "k", value: "2" },
          ],
          [{ put: "k", value: "1" }, { delete: "k" }],
          [{ delete: "k" }, { put: "other", value: "1" }, { delete: "k" }],
        ];
        for (const operations of twice) {
          await assert.rejects(store.txn({ then: operations }), InvalidError);
          await assert.rejects(store.txn({ then: [], else: operations }), InvalidError);
        }
        assert.deepEqual((await store.list("")).entries, []);
        await store.txn({ then: [{ put: "k", value: "1" }], else: [{ put: "k", value: "2" }] });
      },
    },
    {
      name: "a key that is empty, or that is no text, is refused wherever it is named",
      async run(bench) {
        const store = await bench.open();
        for (const key of ["", "a\0b", "half \ud83d"]) {
          const requests: TxnRequest[] = [
            { then: [{ put: key, value: "" }] },
            { then: [{ delete: key }] },
            { else: [{ get: key }] },
            { if: [{ key, exists: false }] },
          ];
          for (const request of requests) {
            await assert.rejects(store.txn(request), InvalidError, JSON.stringify(request));
          }
          await assert.rejects(store.get(key), InvalidError, JSON.stringify(key));
        }
        await assert.rejects(put(store, "k", "half \ud83d"), InvalidError, "a value with half a character");
        assert.deepEqual((await store.list("")).entries, []);
      },
    },
    {
      name: "as many operations as stated are taken, and no more",
      async run(bench) {
        const store = await bench.open();
        const most = store.capabilities.maxOperations;
        const puts = (count: number): Operation[] =>
          Array.from({ length: count }, (_, at) => ({ put: `k${at}`, value: "v" }));
        const compares = (count: number): Compare[] =>
          Array.from({ length: count }, (_, at) => ({ key: `k${at}`, exists: false }));
        const full = await store.txn({ if: compares(most), then: puts(most), else: puts(most) });
        assert.equal(full.succeeded, true);
        assert.equal((await store.list("k")).entries.length, Math.min(most, 1_000));
        await assert.rejects(store.txn({ then: puts(most + 1) }), InvalidError);
        await assert.rejects(store.txn({ else: puts(most + 1) }), InvalidError);
        await assert.rejects(store.txn({ if: compares(most + 1) }), InvalidError);
      },
    },
    {
      name: "creating what is absent, run twice, finds its own first run",
      async run(bench) {
        const store = await bench.open();
        const create = (value: string) =>
          store.txn({
            if: [{ key: "slot", exists: false }],
            then: [{ put: "slot", value }],
            else: [{ get: "slot" }],
          });
        const first = await create("mine");
        assert.equal(first.succeeded, true);
        const second = await create("mine");
        assert.equal(second.succeeded, false);
        assert.deepEqual(second.reads, [
          { key: "slot", value: "mine", createRevision: first.revision, modRevision: first.revision },
        ]);
      },
    },
    {
      name: "of many handles that create one key at once, one wins",
      async run(bench) {
        const stores = await Promise.all(Array.from({ length: 5 }, () => bench.open()));
        for (let round = 0; round < 10; round += 1) {
          const key = `slot/${round}`;
          const results = await Promise.all(
            stores.flatMap((store, at) =>
              [0, 1].map(async (turn) => {
                const name = `${at}.${turn}`;
                const result = await store.txn({
                  if: [{ key, exists: false }],
                  then: [{ put: key, value: name }],
                  else: [{ get: key }],
                });
                return { name, ...result };
              }),
            ),
          );
          const winners = results.filter((result) => result.succeeded).map((result) => result.name);
          assert.equal(winners.length, 1, `winners of round ${round}: ${winners.join(", ")}`);
          for (const result of results) {
            if (!result.succeeded) assert.equal(result.reads[0]?.value, winners[0], "the losers see who won");
          }
        }
      },
    },
    {
      name: "a counter that many handles raise by compare-and-swap loses nothing",
      async run(bench) {
        const stores = await Promise.all(Array.from({ length: 4 }, () => bench.open()));
        const each = 10;
        await put(stores[0] ?? (await bench.open()), "counter", "0");
        await Promise.all(
          stores.map(async (store, at) => {
            for (let done = 0; done < each; done += 1) await increment(store, at % 2 === 0);
          }),
        );
        const { entry } = await (await bench.open()).get("counter");
        assert.equal(entry?.value, String(stores.length * each));
      },
    },
    {
      name: "a reader never sees half of a transaction",
      async run(bench) {
        const [writer, reader] = [await bench.open(), await bench.open()];
        let writing = true;
        const write = async () => {
          for (let turn = 0; turn < 50; turn += 1) {
            await writer.txn({
              then: [
                { put: "half/a", value: `${turn}` },
                { put: "half/b", value: `${turn}` },
              ],
            });
          }
          writing = false;
        };
        const read = async () => {
          while (writing) {
            const { reads } = await reader.txn({ then: [{ get: "half/a" }, { get: "half/b" }] });
            assert.equal(reads[0]?.value, reads[1]?.value, "read by a transaction");
            const [a, b] = (await reader.list("half/")).entries;
            assert.equal(a?.value, b?.value, "read by a list");
          }
        };
        await Promise.all([write(), read()]);
      },
    },
  ],
};

function values(reads: readonly (Entry | undefined)[]): (string | undefined)[] {
  return reads.map((entry) => entry?.value);
}

/** Raises the counter by one, comparing its revision or its value. */
async function increment(store: Store, byRevision: boolean): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    const { entry } = await store.get("counter", patient);
    assert.ok(entry, "the counter is there");
    const unchanged: Compare = byRevision
      ? { key: "counter", modRevision: entry.modRevision }
      : { key: "counter", value: entry.value };
    const then = [{ put: "counter", value: String(Number(entry.value) + 1) }];
    const { succeeded } = await store.txn({ if: [unchanged], then }, patient);
    if (succeeded) return;
  }
  throw new Error("a compare-and-swap lost 500 times in a row");
}
