import { setTimeout as sleep } from "node:timers/promises";
import type { WatchBatch } from "@cocoon-net/core";
import { watches } from "@cocoon-net/store-testkit";
import type { BrokenStores } from "./broken-store.ts";

export const brokenWatches: BrokenStores = {
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
};

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
