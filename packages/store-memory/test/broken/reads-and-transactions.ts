import { type Compare, type Operation, stepsOf } from "@cocoon-net/core";
import { namespaces, reads, transactions } from "@cocoon-net/store-testkit";
import type { BrokenStores } from "./broken-store.ts";

export const brokenReadsAndTransactions: BrokenStores = {
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
};

function lastOfEach(operations: readonly Operation[]): Operation[] {
  const last = new Map<string, Operation>();
  for (const operation of operations) {
    if ("get" in operation) last.set(`get ${last.size}`, operation);
    else last.set("put" in operation ? operation.put : operation.delete, operation);
  }
  return [...last.values()];
}
