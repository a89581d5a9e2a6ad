import assert from "node:assert/strict";
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
  ],
};
