import assert from "node:assert/strict";
import type { CheckGroup } from "../check.ts";
import { pairs, summary, WatchLog } from "../watch-log.ts";
import { patient, put } from "../writing.ts";

export const namespaces: CheckGroup = {
  name: "prefixes",
  checks: [
    {
      name: "handles with different prefixes do not see each other, also when one prefix starts with the other",
      async run(bench) {
        const stores = await Promise.all(
          [`${bench.prefix}/a`, `${bench.prefix}/ab`, `${bench.prefix}/b`].map((prefix) =>
            bench.open(prefix),
          ),
        );
        const logs = stores.map((store) => bench.use(new WatchLog(store, "")));
        for (const log of logs) await log.until("the snapshot", 15_000, () => log.batches.length > 0);
        for (const [at, store] of stores.entries()) {
          await put(store, "k", `${at}`);
          await put(store, "b/k", `${at}`);
        }
        for (const [at, store] of stores.entries()) {
          assert.equal((await store.get("k")).entry?.value, `${at}`);
          assert.deepEqual(pairs((await store.list("")).entries), [`b/k=${at}`, `k=${at}`]);
          assert.deepEqual(pairs((await store.list("b")).entries), [`b/k=${at}`]);
        }
        await stores[0]?.txn({ then: [{ delete: "k" }, { put: "last", value: "" }] });
        await stores[1]?.txn({
          if: [{ key: "k", value: "0" }],
          then: [{ delete: "k" }],
          else: [{ put: "last", value: "" }],
        });
        await put(stores[2] ?? assert.fail("three stores"), "last", "");
        for (const [at, log] of logs.entries()) {
          await log.until("the last write", 15_000, () => log.state.has("last"));
          const expected = [`k=${at}`, `b/k=${at}`, ...(at === 0 ? ["-k"] : []), "last="];
          assert.deepEqual(summary(log.changes).toSorted(), expected.toSorted());
        }
      },
    },
    {
      name: "a session's keys vanish from its own prefix only",
      async run(bench) {
        const [a, ab] = [await bench.open(`${bench.prefix}/a`), await bench.open(`${bench.prefix}/ab`)];
        const [one, two] = [await a.session(60_000, patient), bench.use(await ab.session(60_000, patient))];
        await put(a, "k", "", one);
        await put(ab, "k", "", two);
        await one[Symbol.asyncDispose]();
        assert.equal((await a.get("k")).entry, undefined);
        assert.equal((await ab.get("k")).entry?.value, "");
      },
    },
  ],
};
