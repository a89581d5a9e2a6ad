import assert from "node:assert/strict";
import { type CallOptions, type Store, UnavailableError } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { until, within } from "../waiting.ts";
import { put } from "../writing.ts";

/** Every method that answers once, by name. */
const methods: Readonly<Record<string, (store: Store, options?: CallOptions) => Promise<unknown>>> = {
  get: (store, options) => store.get("k", options),
  list: (store, options) => store.list("", options),
  "txn that reads": (store, options) => store.txn({ then: [{ get: "k" }] }, options),
  "txn that writes": (store, options) => store.txn({ then: [{ put: "k", value: "v" }] }, options),
  session: async (store, options) => (await store.session(2_000, options))[Symbol.asyncDispose](),
  incarnation: (store, options) => store.incarnation(options),
};

/** What a busy machine may add to a deadline. */
const slack = 1_500;

export const deadlines: CheckGroup = {
  name: "deadlines, aborts and closing",
  checks: [
    {
      name: "every method answers with and without options",
      async run(bench) {
        const store = await bench.open();
        for (const [name, call] of Object.entries(methods)) {
          await within(name, 15_000, call(store));
          await within(name, 15_000, call(store, { timeoutMs: 5_000, signal: new AbortController().signal }));
        }
        assert.equal(await store.incarnation(), await (await bench.open()).incarnation());
      },
    },
    {
      name: "a call whose signal has aborted rejects with its reason, and writes nothing",
      async run(bench) {
        const store = await bench.open();
        const reason = new Error("no longer wanted");
        for (const [name, call] of Object.entries(methods)) {
          await assert.rejects(
            within(name, 5_000, call(store, { signal: AbortSignal.abort(reason) })),
            (error) => error === reason,
            name,
          );
        }
        assert.equal((await store.get("k")).entry, undefined);
      },
    },
    {
      name: "a closed store refuses every call, and closing twice is as good as once",
      async run(bench) {
        const store = await bench.open();
        await within(
          "closing",
          5_000,
          Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]),
        );
        await within("closing again", 5_000, store[Symbol.asyncDispose]());
        for (const [name, call] of Object.entries(methods)) {
          await assert.rejects(within(name, 5_000, call(store)), (error) => {
            assert.ok(error instanceof UnavailableError, `${name}: ${error}`);
            assert.equal(error.outcome, "none", name);
            return true;
          });
        }
        for await (const batch of store.watch("")) assert.fail(`a closed store's watch yields ${batch.type}`);
      },
    },
    {
      name: "a black-holed server is given up at the deadline",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await store.get("k");
        await faults.blackhole();
        await Promise.all(
          Object.entries(methods).flatMap(([name, call]) => [
            expectUnavailable(name, 300 + slack, call(store, { timeoutMs: 300 })),
            // The default deadline is each backend's own; it must only be there.
            expectUnavailable(`${name}, default deadline`, 10_000, call(store)),
          ]),
        );
      },
    },
    {
      name: "a server that refuses connections is given up at the deadline, or before",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await store.get("k");
        await faults.refuse();
        for (const [name, call] of Object.entries(methods)) {
          await expectUnavailable(name, 300 + slack, call(store, { timeoutMs: 300 }));
        }
      },
    },
    {
      name: "after an outage calls are answered again",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await put(store, "k", "before");
        for (const fault of ["refuse", "blackhole", "cut"] as const) {
          await faults[fault]();
          if (fault !== "cut")
            await expectUnavailable(fault, 300 + slack, store.get("k", { timeoutMs: 300 }));
          await faults.pass();
          await until(`an answer after ${fault}`, 15_000, async () => {
            await put(store, "k", fault);
            return (await store.get("k")).entry?.value === fault;
          });
        }
      },
    },
    {
      name: "aborting ends a call that waits",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await store.get("k");
        await faults.blackhole();
        const reason = new Error("no longer wanted");
        await Promise.all(
          Object.entries(methods).map(async ([name, call]) => {
            const stop = new AbortController();
            const pending = call(store, { signal: stop.signal, timeoutMs: 20_000 });
            setTimeout(() => stop.abort(reason), 100);
            await assert.rejects(within(name, 100 + slack, pending), (error) => error === reason, name);
          }),
        );
      },
    },
    {
      name: "closing ends calls and watches that wait, in a black hole too",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await store.get("k");
        const watch = store.watch("")[Symbol.asyncIterator]();
        await within("the snapshot", 5_000, watch.next());
        await faults.blackhole();
        const pending = Object.entries(methods).map(([name, call]) =>
          assert.rejects(within(name, 15_000, call(store, { timeoutMs: 20_000 })), UnavailableError, name),
        );
        const next = watch.next();
        await within("closing", 5_000, store[Symbol.asyncDispose]());
        await Promise.all(pending);
        assert.equal((await within("the watch's end", 5_000, next)).done, true);
      },
    },
  ],
};

async function expectUnavailable(what: string, ms: number, call: Promise<unknown>): Promise<void> {
  await assert.rejects(within(what, ms, call), UnavailableError, what);
}
