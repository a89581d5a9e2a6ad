import assert from "node:assert/strict";
import { InvalidError } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { pairs, summary, WatchLog } from "../watch-log.ts";
import { put } from "../writing.ts";

/** Time for something that is written to reach a watcher, on a busy machine too. */
const arrival = 5_000;

export const history: CheckGroup = {
  name: "forgotten history",
  // What it makes the server forget, the watches of other checks may still need.
  alone: true,
  checks: [
    {
      name: "when history is gone, a snapshot comes in its place",
      needs: ["forgetHistory"],
      async run(bench) {
        const store = await bench.open();
        const from = await put(store, "w/a", "1");
        await put(store, "w/a", "2");
        await put(store, "w/b", "2");
        await bench.forgetHistory();
        const log = bench.use(new WatchLog(store, "w/", { fromRevision: from }));
        await log.until("the snapshot", arrival, () => log.batches.length > 0);
        const [first] = log.batches;
        assert.equal(first?.type, "snapshot");
        if (first?.type === "snapshot") assert.deepEqual(pairs(first.entries), ["w/a=2", "w/b=2"]);
        await put(store, "w/c", "3");
        await log.until("the change after it", arrival, () => log.changes.length > 0);
        assert.deepEqual(summary(log.changes), ["w/c=3"]);
      },
    },
    {
      name: "a listing whose revision was forgotten is refused, and one begun anew is whole",
      needs: ["forgetHistory"],
      async run(bench) {
        const store = await bench.open();
        await put(store, "p/a", "1");
        await put(store, "p/b", "1");
        const first = await store.list("p/", { limit: 1 });
        const { next: after = "" } = first;
        await put(store, "p/b", "2");
        await bench.forgetHistory();
        const page = store.list("p/", { limit: 1, after, revision: first.revision });
        if (store.capabilities.pinnedReads) await assert.rejects(page, InvalidError);
        else assert.deepEqual(pairs((await page).entries), ["p/b=2"]);
        assert.deepEqual(pairs((await store.list("p/")).entries), ["p/a=1", "p/b=2"]);
      },
    },
  ],
};
