import assert, { AssertionError } from "node:assert/strict";
import { InvalidError, type Session, type Store } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { until } from "../waiting.ts";
import { WatchLog } from "../watch-log.ts";
import { patient, put } from "../writing.ts";

/** Of sessions that are to end, or not, by their time: one that is renewed outlives a machine that stops for 2 s. */
const ttlMs = 4_000;
/** Of sessions that shall not end by it. */
const longTtlMs = 60_000;
/** Time after which a server must have ended a session that it no longer hears from. */
const ending = 4 * ttlMs + 4_000;
/** What a busy machine may add to a timer. */
const timerSlack = 500;

export const sessions: CheckGroup = {
  name: "sessions",
  checks: [
    {
      name: "disposing a session removes its keys at once, and twice is as good as once",
      async run(bench) {
        const [store, other] = [await bench.open(), await bench.open()];
        const session = await store.session(longTtlMs, patient);
        assert.ok(session.ttlMs >= longTtlMs, `${session.ttlMs} ms were granted for ${longTtlMs} ms`);
        assert.equal(session.signal.aborted, false);
        const log = bench.use(new WatchLog(other, "s/"));
        await put(store, "s/a", "1", session);
        await put(store, "s/b", "1", session);
        await put(store, "s/c", "1");
        assert.equal((await other.list("s/")).entries.length, 3);
        await Promise.all([session[Symbol.asyncDispose](), session[Symbol.asyncDispose]()]);
        assert.equal(session.signal.aborted, true);
        assert.deepEqual(await keysOf(other), ["s/c"]);
        await session[Symbol.asyncDispose]();
        const seen = () => [...log.state.keys()].join(" ");
        await log.until("the watcher to see only s/c", 15_000, () => seen() === "s/c");
      },
    },
    {
      name: "sessions do not touch each other's keys",
      async run(bench) {
        const store = await bench.open();
        const [one, two] = [
          await store.session(longTtlMs, patient),
          bench.use(await store.session(longTtlMs, patient)),
        ];
        assert.notEqual(one.id, two.id);
        await store.txn({
          then: [
            { put: "s/one", value: "", session: one },
            { put: "s/two", value: "", session: two },
            { put: "s/none", value: "" },
          ],
        });
        await one[Symbol.asyncDispose]();
        assert.equal(two.signal.aborted, false);
        assert.deepEqual(await keysOf(store), ["s/none", "s/two"]);
      },
    },
    {
      name: "a key hangs on the session of its newest put only",
      async run(bench) {
        const store = await bench.open();
        const [one, two] = [
          await store.session(longTtlMs, patient),
          bench.use(await store.session(longTtlMs, patient)),
        ];
        await put(store, "s/freed", "1", one);
        await put(store, "s/freed", "2");
        await put(store, "s/handed", "1", one);
        await put(store, "s/handed", "2", two);
        await put(store, "s/remade", "1", one);
        await store.txn({ then: [{ delete: "s/remade" }] });
        await put(store, "s/remade", "2");
        await put(store, "s/tied", "1");
        await put(store, "s/tied", "2", one);
        await one[Symbol.asyncDispose]();
        assert.deepEqual(await keysOf(store), ["s/freed", "s/handed", "s/remade"]);
      },
    },
    {
      name: "putting with a session that is over is refused, and nothing of it is applied",
      async run(bench) {
        const store = await bench.open();
        const session = await store.session(longTtlMs, patient);
        await session[Symbol.asyncDispose]();
        await assert.rejects(
          store.txn({
            then: [
              { put: "s/free", value: "" },
              { put: "s/tied", value: "", session },
            ],
          }),
          InvalidError,
        );
        assert.deepEqual(await keysOf(store), []);
      },
    },
    {
      name: "closing the store ends its sessions",
      async run(bench) {
        const [store, other] = [await bench.open(), await bench.open()];
        const session = await store.session(longTtlMs, patient);
        await put(store, "s/a", "", session);
        await store[Symbol.asyncDispose]();
        assert.equal(session.signal.aborted, true);
        assert.deepEqual(await keysOf(other), [], "gone when the closing has ended");
      },
    },
    {
      name: "a session of another handle is refused",
      async run(bench) {
        const [store, other] = [await bench.open(), await bench.open()];
        const session = bench.use(await other.session(longTtlMs, patient));
        await assert.rejects(put(store, "s/a", "", session), InvalidError);
        assert.deepEqual(await keysOf(store), []);
      },
    },
    {
      name: "a session lives three TTLs and longer while it is held",
      async run(bench) {
        const store = await bench.open();
        const session = bench.use(await store.session(ttlMs, patient));
        const log = bench.use(new WatchLog(await bench.open(), "s/"));
        await put(store, "s/a", "", session);
        await pause(3 * session.ttlMs + 500, session);
        assert.deepEqual(await keysOf(store), ["s/a"]);
        assert.deepEqual(
          log.changes.filter((change) => change.type === "delete"),
          [],
        );
      },
    },
    {
      name: "a session outlives a cut connection",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        const session = bench.use(await store.session(ttlMs, patient));
        const log = bench.use(new WatchLog(await bench.open(), "s/"));
        await put(store, "s/a", "", session);
        await faults.cut();
        await pause(1.5 * session.ttlMs, session);
        await log.until("the watch", 15_000, () => log.batches.length > 0);
        assert.deepEqual([...log.state.keys()], ["s/a"]);
      },
    },
    ...(["blackhole", "refuse"] as const).map((fault) => ({
      name: `a holder that is cut off (${fault}) knows it before anyone can see its keys vanish`,
      needs: ["faults"] as const,
      async run(bench: Parameters<CheckGroup["checks"][number]["run"]>[0]) {
        const other = await bench.open();
        const { store, faults } = await bench.openFaulty();
        const session = await store.session(ttlMs, patient);
        await put(store, "s/a", "", session);
        await put(store, "s/b", "", session);
        await put(store, "s/free", "");
        const bystander = bench.use(await other.session(longTtlMs, patient));
        await put(other, "s/bystander", "", bystander);
        await faults[fault]();
        // Whatever time the machine takes, timers run in their order: by this one the session's own has.
        let silentTooLong = false;
        const dueAt = performance.now() + session.ttlMs + timerSlack;
        const look = (): void => {
          // It comes early where the process stood still before it was set: timers count from the loop's last turn.
          const left = dueAt - performance.now();
          if (left > 0) late = setTimeout(look, left);
          else silentTooLong = !session.signal.aborted;
        };
        let late = setTimeout(look, session.ttlMs + timerSlack);
        let endedAt = Number.POSITIVE_INFINITY;
        session.signal.addEventListener("abort", () => {
          endedAt = performance.now();
        });
        await until("the keys to vanish", session.ttlMs + ending, async () => {
          const askedAt = performance.now();
          const keys = await keysOf(other);
          if (keys.includes("s/a") && keys.includes("s/b")) return false;
          // What was gone when we asked was to be known before. A slow answer proves less: known by now.
          const slow = performance.now() - askedAt > 100;
          assert.ok(
            endedAt <= askedAt || (slow && session.signal.aborted),
            "a key has vanished and its session's signal was silent",
          );
          return keys.length === 2;
        });
        clearTimeout(late);
        assert.equal(silentTooLong, false, "its time is over, and the session's signal was silent");
        assert.deepEqual(await keysOf(other), ["s/bystander", "s/free"]);
        assert.equal(bystander.signal.aborted, false);
        await faults.pass();
        await until("the holder to be served again", 15_000, async () => {
          await store.get("s/a", { timeoutMs: 1_000 });
          return true;
        });
        assert.equal(session.signal.aborted, true, "a session that is over stays over");
        await assert.rejects(put(store, "s/a", "again", session), InvalidError);
        await using next = await store.session(ttlMs, patient);
        await put(store, "s/a", "again", next);
      },
    })),
  ],
};

async function keysOf(store: Store): Promise<string[]> {
  return (await store.list("s/")).entries.map((entry) => entry.key);
}

/** Lets time go by, and fails as soon as the session is over. */
async function pause(ms: number, session: Session): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const fail = () => reject(new AssertionError({ message: "the session ended while it was held" }));
  session.signal.addEventListener("abort", fail, { once: true });
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    session.signal.removeEventListener("abort", fail);
  }
}
