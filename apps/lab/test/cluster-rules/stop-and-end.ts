import { campaign, heartbeat, initCluster, Registry } from "@cocoon-net/core";
import { MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";

// Run by process-end.test.ts as a process of its own. It stops what it has started, says so, and calls no exit.

const link = new MemoryLink();
const store = openMemoryStore({ link });
await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test" });
const registration = await new Registry(store).register({ node: "a", uid: "a", agentVersion: "0.0.0" });

/** Beats until `stop` aborts; with sessions whose own timers would keep the process for a quarter of an hour. */
const beat = (stop: AbortController, onOwned: () => void, onProblem: () => void): Promise<void> =>
  heartbeat(store, registration, {
    ttlMs: 3_600_000,
    signal: stop.signal,
    onOwned,
    onUnsure: () => {},
    onProblem,
  });

const owned = new AbortController();
await beat(
  owned,
  () => setImmediate(() => owned.abort()),
  () => {},
);

const leader = await campaign(store, { id: "a", ttlMs: 3_600_000 });
const waiting = new AbortController();
const second = campaign(store, { id: "b", ttlMs: 3_600_000, signal: waiting.signal }).catch(() => {});
setImmediate(() => waiting.abort());
await second;
await leader[Symbol.asyncDispose]();

link.refuse();
const pausing = new AbortController();
await beat(
  pausing,
  () => {},
  () => setImmediate(() => pausing.abort()),
);
console.log("stopped");
