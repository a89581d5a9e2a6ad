import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Session, UnavailableError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, until, WatchLog } from "@cocoon-net/store-testkit";

// Run by recovery.test.ts in a network namespace of its own. An agent's worth of use: a watch, a session that is
// opened anew when it ends, and a writer that never gives up. Says, as JSON, what a black hole did to it.

const holeMs = Number(process.argv[2]);
await using server = await startEtcd();
await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}`);
await using log = new WatchLog(store, "k/");
const stop = new AbortController();
let session: Session | undefined;
let written = 0;

async function holdSession(): Promise<void> {
  while (!stop.signal.aborted) {
    try {
      session = await store.session(3_000, { signal: stop.signal });
      const { promise, resolve } = Promise.withResolvers<void>();
      for (const signal of [session.signal, stop.signal]) signal.addEventListener("abort", () => resolve());
      await promise;
    } catch (error) {
      if (!(error instanceof UnavailableError) && !stop.signal.aborted) throw error;
    }
  }
}

async function keepWriting(): Promise<void> {
  for (let n = 1; !stop.signal.aborted; ) {
    try {
      await store.txn({ then: [{ put: "k/n", value: `${n}` }] });
      written = n;
      n += 1;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
    }
  }
}

/** Local ports of connections to the server that are being opened. */
function connecting(): string[] {
  const remote = `:${server.port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, local, peer, state]) => (peer?.endsWith(remote) && state === "02" && local ? [local] : []));
}

const rules = ["--dport", "--sport"].map((side) => [
  "INPUT",
  "-p",
  "tcp",
  side,
  `${server.port}`,
  "-j",
  "DROP",
]);
const iptables = (action: string) => {
  for (const rule of rules) execFileSync("iptables", ["-w", "10", action, ...rule], { stdio: "pipe" });
};

await log.until("the snapshot", 20_000, () => log.batches.length > 0);
const busy = Promise.all([holdSession(), keepWriting()]);
await until("it to work", 20_000, () => written > 3 && session?.signal.aborted === false);
await log.until("the watch", 20_000, () => log.changes.length > 3);
iptables("-A");
const attempts = new Set<string>();
let most = 0;
const holeAt = performance.now();
await until("the end of the hole", holeMs + 5_000, () => {
  const open = connecting();
  for (const port of open) attempts.add(port);
  most = Math.max(most, open.length);
  return performance.now() - holeAt >= holeMs;
});
const holeLastedMs = performance.now() - holeAt;
const before = written;
iptables("-D");
const healedAt = performance.now();
const since = () => Math.round(performance.now() - healedAt);
const [writesMs, watchMs, sessionMs] = await Promise.all([
  until("a write", 30_000, () => written > before).then(since),
  until("the watch", 30_000, () => Number(log.state.get("k/n") ?? 0) > before + 1).then(since),
  until("a session", 30_000, () => session?.signal.aborted === false).then(since),
]);
stop.abort();
await busy;
const seen = new Set(log.changes.map((change) => (change.type === "put" ? change.entry.value : "")));
const last = Number(log.state.get("k/n"));
console.log(
  JSON.stringify({
    attemptsPerSecond: attempts.size / (holeLastedMs / 1_000),
    mostAtOnce: most,
    writesMs,
    watchMs,
    sessionMs,
    missed: Array.from({ length: last }, (_, at) => `${at + 1}`).filter((value) => !seen.has(value)).length,
  }),
);
