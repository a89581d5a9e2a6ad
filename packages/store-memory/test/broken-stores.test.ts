import assert, { AssertionError } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Compare,
  type Operation,
  type Session,
  type Store,
  stepsOf,
  type TxnRequest,
  UnavailableError,
  type WatchBatch,
} from "@cocoon-net/core";
import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import {
  applies,
  type CheckGroup,
  checkGroups,
  coreTransactions,
  deadlines,
  lostAnswers,
  namespaces,
  reads,
  runCheck,
  type StoreUnderTest,
  sessions,
  TimeoutError,
  transactions,
  watches,
} from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";

/** What to replace in a store; `whole` sees the same database without a prefix. */
type Breaks = (store: Store, place: { readonly prefix: string; readonly whole: Store }) => Partial<Store>;

// The suite is only worth something if it sees a store that is wrong. Each of these is wrong in one way.
const broken: Readonly<Record<string, { readonly group: CheckGroup; readonly breaks: Breaks }>> = {
  "a list that takes its prefix without the last character": {
    group: reads,
    breaks: (store) => ({ list: (prefix, options) => store.list(prefix.slice(0, -1), options) }),
  },
  "a list that begins each page with the end of the one before": {
    group: reads,
    breaks: (store) => ({
      list: (prefix, options = {}) =>
        store.list(
          prefix,
          options.after === undefined ? options : { ...options, after: options.after.slice(0, -1) },
        ),
    }),
  },
  "a list that promises pages of one moment and gives the newest": {
    group: reads,
    breaks: (store) => ({ list: (prefix, { revision, ...rest } = {}) => store.list(prefix, rest) }),
  },
  "a list in the order of JavaScript's strings": {
    group: reads,
    breaks: (store) => ({
      async list(prefix, options) {
        const page = await store.list(prefix, options);
        return { ...page, entries: page.entries.toSorted((a, b) => (a.key < b.key ? -1 : 1)) };
      },
    }),
  },
  "a put that makes its key anew each time": {
    group: reads,
    breaks: (store) => ({
      async get(key, options) {
        const { entry, revision } = await store.get(key, options);
        return { revision, entry: entry && { ...entry, createRevision: entry.modRevision } };
      },
    }),
  },
  "a transaction that skips its last compare": {
    group: transactions,
    breaks: (store) => ({
      txn: (request, options) => store.txn({ ...request, if: (request.if ?? []).slice(0, -1) }, options),
    }),
  },
  "a transaction for which an absent key has the revision 0": {
    group: transactions,
    breaks: (store) => ({
      txn: (request, options) => {
        const absent = (compare: Compare): Compare =>
          ("createRevision" in compare && compare.createRevision === 0) ||
          ("modRevision" in compare && compare.modRevision === 0)
            ? { key: compare.key, exists: false }
            : compare;
        return store.txn({ ...request, if: (request.if ?? []).map(absent) }, options);
      },
    }),
  },
  "a put that does nothing when the value is there already": {
    group: transactions,
    breaks: (store) => ({
      async txn(request, options) {
        const [first] = request.then ?? [];
        const same =
          first !== undefined && "put" in first && (await store.get(first.put)).entry?.value === first.value;
        return store.txn(same ? {} : request, options);
      },
    }),
  },
  "a transaction that takes keys which are no text": {
    group: transactions,
    breaks: (store) => ({ get: (key, options) => store.get(key.toWellFormed() || "?", options) }),
  },
  "a transaction that compares first and writes later": {
    group: transactions,
    breaks: (store) => ({
      async txn(request, options) {
        const steps = stepsOf(request);
        const conditions = steps.slice(1, -1).map((each) => ({ if: each.if ?? [] }));
        const { succeeded, step } = await store.txn({ if: request.if ?? [], or: conditions }, options);
        const result = await store.txn({ then: steps[step]?.then ?? [] }, options);
        return { ...result, succeeded, step };
      },
    }),
  },
  "a transaction that tries one step only": {
    group: transactions,
    breaks: (store) => ({ txn: ({ or: _, ...request }, options) => store.txn(request, options) }),
  },
  "a transaction that tries its last step first": {
    group: transactions,
    breaks: (store) => ({
      txn({ or = [], ...request }, options) {
        return store.txn({ ...request, or: or.toReversed() }, options);
      },
    }),
  },
  "a transaction that reads what it has just written": {
    group: transactions,
    breaks: (store) => ({
      async txn(request, options) {
        const result = await store.txn(request, options);
        const operations = stepsOf(request)[result.step]?.then ?? [];
        const keys = operations.flatMap((operation) => ("get" in operation ? [operation.get] : []));
        const after = await Promise.all(keys.map((key) => store.get(key)));
        return { ...result, reads: after.map(({ entry }) => entry) };
      },
    }),
  },
  "a transaction that is applied in two steps": {
    group: transactions,
    breaks: (store) => ({
      async txn(request, options) {
        if (request.if !== undefined) return store.txn(request, options);
        let last = await store.txn({}, options);
        const reads = [];
        for (const operation of request.then ?? []) {
          last = await store.txn({ then: [operation] }, options);
          reads.push(...last.reads);
        }
        return { ...last, reads };
      },
    }),
  },
  "a transaction that lets the last of two writes win": {
    group: transactions,
    breaks: (store) => ({
      txn: (request, options) => store.txn({ ...request, then: lastOfEach(request.then ?? []) }, options),
    }),
  },
  "handles whose prefix is not separated from their keys": {
    group: namespaces,
    breaks: (_store, { prefix, whole }) => ({
      async list(under, { after: _, ...options } = {}) {
        const page = await whole.list(prefix + under, options);
        return {
          ...page,
          entries: page.entries.map((entry) => ({ ...entry, key: entry.key.slice(prefix.length + 1) })),
        };
      },
    }),
  },
  "a watch that loses one event": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) => edited(store.watch(...request), (batch, at) => (at === 1 ? [] : [batch])),
    }),
  },
  "a watch that tells one event twice": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) =>
        edited(store.watch(...request), (batch, at) => (at === 1 ? [batch, batch] : [batch])),
    }),
  },
  "a watch that tells a transaction in pieces": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) =>
        edited(store.watch(...request), (batch) =>
          batch.type === "snapshot"
            ? [batch]
            : batch.changes.map((change) => ({ ...batch, changes: [change] })),
        ),
    }),
  },
  "a watch whose batches name a revision that is before their own changes": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) =>
        edited(store.watch(...request), (batch) => [{ ...batch, revision: batch.revision - 1 }]),
    }),
  },
  "a watch that starts without a snapshot": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) =>
        edited(store.watch(...request), (batch) => (batch.type === "snapshot" ? [] : [batch])),
    }),
  },
  "a watch that starts one revision late": {
    group: watches,
    breaks: (store) => ({
      watch: (prefix, options = {}) =>
        store.watch(
          prefix,
          options.fromRevision === undefined
            ? options
            : { ...options, fromRevision: options.fromRevision + 1 },
        ),
    }),
  },
  "a watch that waits for a revision that the server may never reach": {
    group: watches,
    breaks: (store) => ({
      async *watch(prefix, options = {}) {
        const { fromRevision: from = 0, signal = new AbortController().signal } = options;
        while (!signal.aborted && (await store.get("any")).revision < from) await sleep(25);
        yield* store.watch(prefix, options);
      },
    }),
  },
  "a watch that does not tell of deletes": {
    group: watches,
    breaks: (store) => ({
      watch: (...request) =>
        edited(store.watch(...request), (batch) => {
          if (batch.type === "snapshot") return [batch];
          const changes = batch.changes.filter((change) => change.type === "put");
          return changes.length > 0 ? [{ ...batch, changes }] : [];
        }),
    }),
  },
  "a session that keeps its keys when it is disposed": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        const over = new AbortController();
        return {
          id: session.id,
          ttlMs: session.ttlMs,
          signal: AbortSignal.any([session.signal, over.signal]),
          [Symbol.asyncDispose]: async () => over.abort(),
        };
      },
    }),
  },
  "a session that tells of its end two seconds late": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        const late = new AbortController();
        session.signal.addEventListener("abort", () => setTimeout(() => late.abort(), 2_000));
        return {
          id: session.id,
          ttlMs: session.ttlMs,
          signal: late.signal,
          [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
        };
      },
    }),
  },
  "a session that ends while it is held": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        setTimeout(() => void session[Symbol.asyncDispose](), 1.5 * ttlMs);
        return session;
      },
    }),
  },
  "a key that stays with the session that once held it": {
    group: sessions,
    breaks: (store) => {
      const holders = new Map<string, Session>();
      const tied = (operation: Operation): Operation => {
        if (!("put" in operation)) return operation;
        const session = holders.get(operation.put) ?? operation.session;
        if (session === undefined) return operation;
        holders.set(operation.put, session);
        return { ...operation, session };
      };
      return {
        txn: (request, options) => store.txn({ ...request, then: (request.then ?? []).map(tied) }, options),
      };
    },
  },
  "calls without a deadline": {
    group: deadlines,
    breaks: (store) => ({ get: (key, options) => store.get(key, { ...options, timeoutMs: 60_000 }) }),
  },
  "calls that do not look at their signal": {
    group: deadlines,
    breaks: (store) => ({ get: (key) => store.get(key) }),
  },
  "a store that goes on after it was closed": {
    group: deadlines,
    breaks: () => ({ [Symbol.asyncDispose]: async () => {} }),
  },
  "a closed store that says its calls may have been carried out": {
    group: deadlines,
    breaks: (store) => ({
      async get(key, options) {
        try {
          return await store.get(key, options);
        } catch (cause) {
          if (!(cause instanceof UnavailableError)) throw cause;
          throw new UnavailableError(cause.message, { outcome: "unknown", cause });
        }
      },
    }),
  },
  "a lost answer that is taken for a write that did not happen": {
    group: lostAnswers,
    breaks: (store) => ({
      async txn(request, options) {
        try {
          return await store.txn(request, options);
        } catch (cause) {
          if (!(cause instanceof UnavailableError)) throw cause;
          throw new UnavailableError(cause.message, { outcome: "none", cause });
        }
      },
    }),
  },
  "a lost answer after which the write is sent again, as if nothing had happened": {
    group: lostAnswers,
    breaks: sendsAgain,
  },
  "core's transactions sent again, as if nothing had happened": {
    group: coreTransactions,
    breaks: sendsAgain,
  },
};

describe.concurrent("the suite", () => {
  it.each(Object.entries(broken))("sees %s", async (_name, { group, breaks }) => {
    const subject = subjectOf(breaks);
    await Promise.any(
      group.checks
        .filter((check) => applies(check, subject))
        .map((check) => assert.rejects(runCheck(check, subject), isVerdict)),
    );
  });

  it("sees nothing wrong with the same store unbroken", async () => {
    const subject = subjectOf(() => ({}));
    const checks = checkGroups.flatMap((group) => group.checks).filter((check) => applies(check, subject));
    await Promise.all(checks.map((check) => runCheck(check, subject)));
  }, 90_000);
});

/** Blind retries, as clients do by default. */
function sendsAgain(store: Store): Partial<Store> {
  return {
    async txn(request, options) {
      try {
        return await store.txn(request, options);
      } catch {
        return store.txn({ then: request.then ?? [] } satisfies TxnRequest, options);
      }
    },
  };
}

/** What a check says about a store, as against a mistake in this file. */
function isVerdict(error: unknown): boolean {
  return error instanceof AssertionError || error instanceof TimeoutError;
}

function subjectOf(breaks: Breaks): StoreUnderTest<MemoryLink> {
  const database = new MemoryDatabase();
  const open = (prefix: string, link = new MemoryLink()): Store => {
    const store = openMemoryStore({ database, prefix, link });
    return altered(store, breaks(store, { prefix, whole: openMemoryStore({ database }) }));
  };
  return {
    name: "broken",
    open: async ({ prefix, via }) => open(prefix, via),
    faults: () => new MemoryLink(),
  };
}

/** The store with some of its members replaced. */
function altered(store: Store, members: Partial<Store>): Store {
  return {
    label: store.label,
    capabilities: store.capabilities,
    get: (...request) => store.get(...request),
    list: (...request) => store.list(...request),
    txn: (...request) => store.txn(...request),
    watch: (...request) => store.watch(...request),
    session: (...request) => store.session(...request),
    incarnation: (...request) => store.incarnation(...request),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    ...members,
  };
}

async function* edited(
  watch: AsyncIterable<WatchBatch>,
  edit: (batch: WatchBatch, at: number) => WatchBatch[],
): AsyncIterable<WatchBatch> {
  let at = 0;
  for await (const batch of watch) {
    yield* edit(batch, at);
    at += 1;
  }
}

function lastOfEach(operations: readonly Operation[]): Operation[] {
  const last = new Map<string, Operation>();
  for (const operation of operations) {
    if ("get" in operation) last.set(`get ${last.size}`, operation);
    else last.set("put" in operation ? operation.put : operation.delete, operation);
  }
  return [...last.values()];
}
