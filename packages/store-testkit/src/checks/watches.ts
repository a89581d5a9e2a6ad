import assert from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import type { Bench, CheckGroup } from "../check.ts";
import { within } from "../waiting.ts";
import { pairs, revisionOf, summary, WatchLog } from "../watch-log.ts";
import { put } from "../writing.ts";

/** Time for something that is written to reach a watcher, on a busy machine too. */
const arrival = 5_000;
/** Time for a client to notice that its connection is dead, and to come back. */
const comeback = 25_000;

export const watches: CheckGroup = {
  name: "watches",
  checks: [
    {
      name: "a watch without a revision starts with a snapshot and goes on from there",
      async run(bench) {
        const store = await bench.open();
        await put(store, "w/a", "1");
        const log = bench.use(new WatchLog(store, "w/"));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        const [first] = log.batches;
        assert.equal(first?.type, "snapshot");
        if (first?.type === "snapshot") assert.deepEqual(pairs(first.entries), ["w/a=1"]);
        await put(store, "w/b", "2");
        await store.txn({ then: [{ delete: "w/a" }] });
        await log.until("both changes", arrival, () => log.changes.length >= 2);
        assert.deepEqual(summary(log.changes), ["w/b=2", "-w/a"]);
        assert.equal(log.batches.filter((batch) => batch.type === "snapshot").length, 1, "snapshots");
      },
    },
    {
      name: "the snapshot of an empty prefix comes at once",
      async run(bench) {
        const log = bench.use(new WatchLog(await bench.open(), "w/"));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        const [first] = log.batches;
        assert.deepEqual(first?.type === "snapshot" && first.entries, []);
      },
    },
    {
      name: "a watch from a revision tells what changed after it, and nothing else",
      async run(bench) {
        const store = await bench.open();
        await put(store, "w/a", "0");
        // Another check's write in between would hide a watch that starts one revision late.
        let [from, created] = [0, 0];
        for (let turn = 0; turn < 100 && (turn === 0 || created !== from + 1); turn += 1) {
          from = await put(store, "w/b", "0");
          created = await put(store, "w/a", "1");
        }
        await put(store, "other", "x");
        await put(store, "w", "x");
        const { revision: deleted } = await store.txn({ then: [{ delete: "w/b" }] });
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: from }));
        await log.until("the past changes", arrival, () => log.changes.length >= 2);
        const last = await put(store, "w/c", "2");
        await log.until("the new change", arrival, () => log.changes.length >= 3);
        assert.deepEqual(summary(log.changes), ["w/a=1", "-w/b", "w/c=2"]);
        assert.deepEqual(log.changes.map(revisionOf), [created, deleted, last]);
        assert.ok(
          log.batches.every((batch) => batch.type === "changes"),
          "history that is there is told as changes",
        );
        const [change] = log.changes;
        if (change?.type === "put") {
          const { entry } = await store.get("w/a");
          assert.deepEqual(change.entry, entry, "the whole entry is told");
        }
      },
    },
    {
      name: "the changes of one transaction come in one batch, at its revision",
      async run(bench) {
        const store = await bench.open();
        const { revision: from } = await store.txn({ then: [{ put: "w/old", value: "x" }] });
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: from }));
        for (let turn = 0; turn < 10; turn += 1) {
          const { revision } = await store.txn({
            then: [
              { put: "w/a", value: `${turn}` },
              turn % 2 === 0 ? { delete: "w/old" } : { put: "w/old", value: `${turn}` },
              { put: "w/b", value: `${turn}` },
            ],
          });
          await log.until("the transaction", arrival, () => log.changes.length >= 3 * (turn + 1));
          const batch = log.batches.at(-1);
          assert.equal(batch?.revision, revision, "the batch's revision");
          const own = log.changes.filter((change) => revisionOf(change) === revision);
          const keys = own.map((change) => (change.type === "put" ? change.entry.key : change.key));
          assert.deepEqual(keys.toSorted(), ["w/a", "w/b", "w/old"]);
        }
        assertOrdered(log);
      },
    },
    {
      name: "while writers run, watchers miss nothing and repeat nothing",
      async run(bench) {
        const store = await bench.open();
        const { revision: from } = await store.get("w/0.0");
        const first = bench.use(new WatchLog(await bench.open(), "w/", { fromRevision: from }));
        const written = write(bench, 3, 50);
        const join = async () => {
          await first.until("half of the writes", 20_000, () => first.changes.length >= 75);
          const middle = revisionOf(first.changes[50] ?? assert.fail("changes were taken back"));
          return { middle, log: bench.use(new WatchLog(await bench.open(), "w/", { fromRevision: middle })) };
        };
        const [expected, late] = await Promise.all([written, join()]);
        for (const log of [first, late.log]) {
          const end = expected.at(-1)?.revision;
          await log.until("the last write", 20_000, () => lastRevision(log) === end);
          assertOrdered(log);
        }
        assert.deepEqual(
          summary(first.changes),
          expected.map((item) => item.what),
        );
        assert.deepEqual(
          summary(late.log.changes),
          expected.filter((item) => item.revision > late.middle).map((item) => item.what),
          "what a watcher is told that came later",
        );
      },
    },
    {
      name: "a watch ends when its signal aborts, when it was aborted before, and when its store is closed",
      async run(bench) {
        const store = await bench.open();
        const stop = new AbortController();
        const watch = store.watch("w/", { signal: stop.signal })[Symbol.asyncIterator]();
        assert.equal((await within("the snapshot", arrival, watch.next())).done, false);
        const pending = watch.next();
        stop.abort();
        assert.equal((await within("the end", 5_000, pending)).done, true);
        const never = store.watch("w/", { signal: AbortSignal.abort() })[Symbol.asyncIterator]();
        assert.equal((await within("the end", 5_000, never.next())).done, true);
        const open = store.watch("w/")[Symbol.asyncIterator]();
        assert.equal((await within("the snapshot", arrival, open.next())).done, false);
        const last = open.next();
        await within("the closing", 5_000, store[Symbol.asyncDispose]());
        assert.equal((await within("the end", 5_000, last)).done, true);
      },
    },
    {
      name: "leaving a watch's loop ends it, and others on the same handle go on",
      async run(bench) {
        const store = await bench.open();
        const log = bench.use(new WatchLog(store, "w/"));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        for await (const batch of store.watch("w/")) {
          assert.equal(batch.type, "snapshot");
          break;
        }
        await put(store, "w/a", "1");
        await log.until("the change", arrival, () => log.changes.length > 0);
      },
    },
    {
      name: "from the revision of any batch another watch goes on, with all that came after it",
      async run(bench) {
        const store = await bench.open();
        await put(store, "w/a", "0");
        const log = bench.use(new WatchLog(store, "w/"));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        for (let turn = 1; turn <= 4; turn += 1) {
          const both = { then: [`w/a`, `w/${turn}`].map((key) => ({ put: key, value: `${turn}` })) };
          await store.txn(both);
          await put(store, "elsewhere", `${turn}`);
        }
        await log.until("all changes", arrival, () => log.changes.length >= 8);
        const batches = [...log.batches];
        for (const [at, { revision }] of batches.entries()) {
          const rest = batches
            .slice(at + 1)
            .flatMap((batch) => (batch.type === "changes" ? batch.changes : []));
          const late = bench.use(new WatchLog(store, "w/", { fromRevision: revision }));
          await put(store, "w/end", `${at}`);
          const end = `w/end=${at}`;
          await late.until("its end", arrival, () => summary(late.changes).includes(end));
          const seen = summary(late.changes).filter((change) => !change.startsWith("w/end"));
          assert.deepEqual(seen.toSorted(), summary(rest).toSorted(), `after batch ${at}`);
        }
      },
    },
    {
      name: "a watcher that is ahead of the server's history gets a snapshot, not silence",
      async run(bench) {
        const store = await bench.open();
        const revision = await put(store, "w/a", "1");
        // As after a restore from a backup: the server has not got to what the watcher has seen.
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: revision + 1_000_000 }));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        const [first] = log.batches;
        assert.equal(first?.type, "snapshot");
        if (first?.type === "snapshot") assert.deepEqual(pairs(first.entries), ["w/a=1"]);
        await put(store, "w/b", "2");
        await log.until("the change after it", arrival, () => log.changes.length > 0);
      },
    },
    {
      name: "over cut connections, a watcher misses nothing and repeats nothing",
      needs: ["faults"],
      async run(bench) {
        const writer = await bench.open();
        const { store, faults } = await bench.openFaulty();
        const { revision: from } = await writer.get("w/0");
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: from }));
        const expected: string[] = [];
        for (let turn = 0; turn < 60; turn += 1) {
          await put(writer, `w/${turn}`, `${turn}`);
          expected.push(`w/${turn}=${turn}`);
          if (turn % 15 === 7) await faults.cut();
          // A second break while it comes back is where clients lose their place.
          if (turn % 30 === 10) {
            await log.until("a change after the cut", comeback, () => log.changes.length > turn - 5);
            await faults.cut();
          }
        }
        await log.until("the last write", comeback, () => log.changes.length >= expected.length);
        assert.deepEqual(summary(log.changes), expected);
        assertOrdered(log);
      },
    },
    {
      name: "over a refused connection and a black hole, a watcher misses nothing and repeats nothing",
      needs: ["faults"],
      async run(bench) {
        const writer = await bench.open();
        const { store, faults } = await bench.openFaulty();
        const { revision: from } = await writer.get("w/0");
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: from }));
        const expected: string[] = [];
        const puts = async (count: number) => {
          for (let turn = 0; turn < count; turn += 1) {
            const key = `w/${expected.length}`;
            await put(writer, key, "x");
            expected.push(`${key}=x`);
          }
        };
        await puts(3);
        await log.until("the first writes", arrival, () => log.changes.length >= 3);
        await faults.refuse();
        await puts(3);
        await faults.pass();
        await log.until("what was written while refused", comeback, () => log.changes.length >= 6);
        await faults.blackhole();
        await puts(3);
        await faults.pass();
        await log.until("what was written in the black hole", comeback, () => log.changes.length >= 9);
        await puts(3);
        await log.until("what was written afterwards", comeback, () => log.changes.length >= 12);
        assert.deepEqual(summary(log.changes), expected);
        assertOrdered(log);
      },
    },
  ],
};

/** Each batch lies wholly after the one before, and its revision is that of its newest change. */
function assertOrdered(log: WatchLog): void {
  let seen = 0;
  for (const batch of log.batches) {
    if (batch.type === "changes") {
      const revisions = batch.changes.map(revisionOf);
      assert.ok(revisions.length > 0, "a batch of changes holds some");
      assert.deepEqual(
        revisions,
        revisions.toSorted((a, b) => a - b),
        "changes in order of their revisions",
      );
      assert.ok(
        Math.min(...revisions) > seen,
        `a change of revision ${revisions[0]} after a batch at ${seen}`,
      );
      assert.equal(batch.revision, revisions.at(-1), "the batch's revision");
    }
    seen = batch.revision;
  }
}

/** Revision of the newest change that the watcher was told of. */
function lastRevision(log: WatchLog): number {
  const change = log.changes.at(-1);
  return change === undefined ? 0 : revisionOf(change);
}

/** Lets several handles write at once; the answer is what they wrote, in order of the revisions they got. */
async function write(
  bench: Bench,
  writers: number,
  each: number,
): Promise<{ what: string; revision: number }[]> {
  const written: { what: string; revision: number }[] = [];
  const run = async (store: Store, writer: number) => {
    for (let turn = 0; turn < each; turn += 1) {
      const key = `w/${writer}.${turn % 7}`;
      const value = `${writer}.${turn}`;
      const gone = turn % 7 === 6;
      const { revision } = await store.txn({
        then: [gone ? { delete: `w/${writer}.0` } : { put: key, value }],
      });
      written.push({ what: gone ? `-w/${writer}.0` : `${key}=${value}`, revision });
    }
  };
  const stores = await Promise.all(Array.from({ length: writers }, () => bench.open()));
  await Promise.all(stores.map((store, writer) => run(store, writer)));
  return written.toSorted((a, b) => a.revision - b.revision);
}
