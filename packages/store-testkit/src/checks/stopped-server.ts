import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { UnavailableError } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { until } from "../waiting.ts";
import { summary, WatchLog } from "../watch-log.ts";
import { patient, put } from "../writing.ts";

/** What a busy machine may add to a timer. */
const timerSlack = 500;
/** Time for clients to find a server that goes on. */
const comeback = 15_000;

export const stoppedServer: CheckGroup = {
  name: "a server that is stopped",
  alone: true,
  checks: [
    {
      name: "for less than their time, sessions outlive it, and watchers miss nothing",
      needs: ["server"],
      async run(bench) {
        const store = await bench.open();
        const session = bench.use(await store.session(5_000, patient));
        const log = bench.use(new WatchLog(store, "s/"));
        await put(store, "s/held", "1", session);
        await log.until("the key", 15_000, () => log.state.has("s/held"));
        bench.server.pause();
        try {
          await assert.rejects(put(store, "elsewhere", "", undefined, { timeoutMs: 800 }), UnavailableError);
        } finally {
          bench.server.resume();
        }
        await until("a write", comeback, () => put(store, "s/after", "1"));
        await log.until("the write after it", comeback, () => log.state.has("s/after"));
        // Past what its time would be, had it not been renewed since.
        await sleep(session.ttlMs + timerSlack);
        assert.equal(session.signal.aborted, false);
        assert.ok(!summary(log.changes).includes("-s/held"), "its key has stayed");
      },
    },
    {
      name: "for longer than their time, holders know that their sessions are over before it goes on",
      needs: ["server"],
      async run(bench) {
        const [store, other] = [await bench.open(), await bench.open()];
        const session = await store.session(4_000, patient);
        const log = bench.use(new WatchLog(other, "s/"));
        await put(store, "s/held", "1", session);
        await log.until("the key", 15_000, () => log.state.has("s/held"));
        bench.server.pause();
        try {
          await until("the holder to know", session.ttlMs + timerSlack, () => session.signal.aborted);
          assert.ok(log.state.has("s/held"), "before anyone can have seen its key vanish");
        } finally {
          bench.server.resume();
        }
        await log.until("its key to vanish", comeback, () => !log.state.has("s/held"));
        const next = bench.use(await until("a new session", comeback, () => store.session(2_000)));
        await put(store, "s/held", "2", next);
        await log.until("its key", comeback, () => log.state.get("s/held") === "2");
      },
    },
  ],
};
