import assert from "node:assert/strict";
import { type Entry, InvalidError, parseConnectionUrl, type Store, UnavailableError } from "@cocoon-net/core";
import {
  ManualClock,
  MemoryDatabase,
  MemoryLink,
  memoryDriver,
  openMemoryStore,
} from "@cocoon-net/store-memory";
import { WatchLog } from "@cocoon-net/store-testkit";
import fc from "fast-check";
import { describe, it } from "vitest";

describe("memory store", () => {
  it("agrees with a naive model, also about any moment of the past", async () => {
    // Keys that differ in the order of bytes and of UTF-16, and that are prefixes of one another.
    const key = fc.constantFrom("a", "a/", "a/b", "a/\uffee", "a/😀", "a0", "b", "é");
    const step = fc.oneof(
      fc.record({ put: key, value: fc.constantFrom("1", "2") }),
      fc.record({ delete: key }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uniqueArray(step, { maxLength: 3, selector: keyOf })),
        key,
        async (steps, prefix) => {
          await using store = openMemoryStore({ prefix: "/p" });
          const model = new Map<string, Entry>();
          const past: { revision: number; entries: Entry[] }[] = [];
          for (const operations of steps) {
            const { revision } = await store.txn({ then: operations });
            for (const operation of operations) {
              if ("put" in operation) {
                const createRevision = model.get(operation.put)?.createRevision ?? revision;
                model.set(operation.put, {
                  key: operation.put,
                  value: operation.value,
                  createRevision,
                  modRevision: revision,
                });
              } else {
                model.delete(operation.delete);
              }
            }
            const entries = [...model.values()].filter((entry) => entry.key.startsWith(prefix));
            entries.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
            past.push({ revision, entries });
          }
          for (const { revision, entries } of past) {
            assert.deepEqual(await listed(store, prefix, revision), entries, `at revision ${revision}`);
          }
        },
      ),
    );
  });

  it("forgets history beyond its limit: watchers get a snapshot, pinned reads an error", async () => {
    const database = new MemoryDatabase({ historyLimit: 3 });
    await using store = openMemoryStore({ database });
    const { revision: first } = await store.txn({ then: [{ put: "k", value: "0" }] });
    for (let turn = 1; turn <= 10; turn += 1) await store.txn({ then: [{ put: "k", value: `${turn}` }] });
    await assert.rejects(store.list("", { revision: first }), InvalidError);
    await using log = new WatchLog(store, "", { fromRevision: first });
    await log.until("the snapshot", 10_000, () => log.batches.length > 0);
    assert.equal(log.batches[0]?.type, "snapshot");
    await using late = new WatchLog(store, "", { fromRevision: database.revision - 3 });
    await late.until("the changes", 10_000, () => late.changes.length === 3);
    assert.ok(late.batches.every((batch) => batch.type === "changes"));
  });

  it("ends a session by the database's clock, and keeps it while its holder is heard", async () => {
    const clock = new ManualClock();
    const database = new MemoryDatabase({ clock });
    const link = new MemoryLink();
    await using holder = openMemoryStore({ database, link });
    await using other = openMemoryStore({ database });
    const session = await holder.session(30_000);
    await holder.txn({ then: [{ put: "alive/n1", value: "", session }] });
    await clock.advance(24 * 3_600_000);
    assert.ok((await other.get("alive/n1")).entry, "a day of being heard");
    link.blackhole();
    await clock.advance(29_900);
    assert.equal(session.signal.aborted, false, "what was last heard may have been just before");
    await clock.advance(200);
    assert.equal(session.signal.aborted, true);
    assert.ok((await other.get("alive/n1")).entry, "the holder knows before the server acts");
    await clock.advance(1_000);
    assert.equal((await other.get("alive/n1")).entry, undefined);
  });

  it("tells by its incarnation, and by a snapshot to watchers, that everything was lost", async () => {
    const database = new MemoryDatabase();
    await using store = openMemoryStore({ database });
    await using log = new WatchLog(store, "");
    await store.txn({ then: [{ put: "k", value: "1" }] });
    await log.until("the change", 10_000, () => log.state.has("k"));
    const before = await store.incarnation();
    database.wipe();
    assert.notEqual(await store.incarnation(), before);
    assert.equal((await store.get("k")).entry, undefined);
    await store.txn({ then: [{ put: "new", value: "1" }] });
    await log.until("the snapshot", 10_000, () => log.state.has("new"));
    assert.deepEqual([...log.state.keys()], ["new"]);
  });

  it("applies what was held in a black hole when it passes, although its caller has given up", async () => {
    const database = new MemoryDatabase();
    const link = new MemoryLink();
    await using store = openMemoryStore({ database, link });
    link.blackhole();
    await assert.rejects(store.txn({ then: [{ put: "k", value: "late" }] }, { timeoutMs: 20 }), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.equal(error.message, "txn on memory:: no answer in 20 ms");
      assert.equal(error.outcome, "unknown");
      return true;
    });
    link.pass();
    assert.equal((await store.get("k")).entry?.value, "late");
  });

  it("ends its sessions with the store: at once, or by the database's clock when that is out of reach", async () => {
    const clock = new ManualClock();
    const database = new MemoryDatabase({ clock });
    const link = new MemoryLink();
    await using other = openMemoryStore({ database });
    for (const [fault, left] of [
      ["pass", false],
      ["refuse", true],
      ["blackhole", true],
    ] as const) {
      link.pass();
      const store = openMemoryStore({ database, link });
      const session = await store.session(5_000);
      await store.txn({ then: [{ put: fault, value: "", session }] });
      link[fault]();
      await store[Symbol.asyncDispose]();
      assert.equal(session.signal.aborted, true);
      assert.equal((await other.get(fault)).entry !== undefined, left, fault);
    }
    await clock.advance(6_000);
    assert.deepEqual((await other.list("")).entries, []);
  });

  it("refuses to tie a key to a session of another handle", async () => {
    const database = new MemoryDatabase();
    await using one = openMemoryStore({ database });
    await using two = openMemoryStore({ database });
    await using session = await one.session(5_000);
    await assert.rejects(two.txn({ then: [{ put: "k", value: "", session }] }), InvalidError);
  });

  it("is opened by the URL memory: and by nothing longer", async () => {
    await using one = await memoryDriver.open(parseConnectionUrl("memory:"));
    await using two = await memoryDriver.open(parseConnectionUrl("memory:"));
    await one.txn({ then: [{ put: "k", value: "" }] });
    assert.equal((await two.get("k")).entry, undefined, "each has a database of its own");
    for (const url of ["memory://host", "memory:///prefix", "memory:?ttl=1"]) {
      await assert.rejects(memoryDriver.open(parseConnectionUrl(url)), InvalidError, url);
    }
  });
});

function keyOf(step: { put: string } | { delete: string }): string {
  return "put" in step ? step.put : step.delete;
}

/** All pages of two, joined. */
async function listed(store: Store, prefix: string, revision: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { limit: 2, revision, ...(after === undefined ? {} : { after }) });
    entries.push(...page.entries);
    after = page.next;
  } while (after !== undefined);
  return entries;
}
