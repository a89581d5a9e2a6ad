import { heartbeat, initCluster, keys, pause, Registry } from "@cocoon-net/core";
import { openRawClient } from "../raw/client.ts";
import { clusterConfig } from "../synthetic-cluster.ts";
import { openStore, type Side, type Target } from "../target.ts";
import type { Task, TaskContext } from "../task.ts";

export interface OutagesParams {
  readonly target: Target;
  readonly side: Side;
}

/** Moments of `Date.now()`. */
export interface OutagesResult {
  readonly writes: readonly number[];
  /** When the watch told of something. */
  readonly watched: readonly number[];
  /** When the node's heartbeat had something to log; the raw client has no such thing. */
  readonly logged: readonly number[];
}

/** Between two tries of the writer, whether the last one worked or not. */
const tryEveryMs = 50;
/** Short, so that a node becomes unsure of its subnet in an outage, and says so. */
const heartbeatTtlMs = 3_000;

/**
 * Writes one key over and over, follows it, and keeps a node alive, until it is told to finish. Its progress is the
 * moment at which both the writing and the watch last worked.
 */
export const liveThroughOutages: Task<OutagesParams, OutagesResult> = async ({ target, side }, context) => {
  const [writes, watched, logged]: [number[], number[], number[]] = [[], [], []];
  const write =
    side === "ours"
      ? await startOurs(
          target,
          context,
          () => watched.push(Date.now()),
          () => logged.push(Date.now()),
        )
      : await startRaw(target, context, () => watched.push(Date.now()));
  await context.start();
  for (let count = 0; !context.finish.aborted; count++) {
    try {
      await write(String(count));
      writes.push(Date.now());
      context.progress(Math.min(writes.at(-1) ?? 0, watched.at(-1) ?? 0));
    } catch {
      // An outage: that is what this is about.
    }
    await pause(tryEveryMs, context.finish).catch(() => {});
  }
  return { writes, watched, logged };
};

type Write = (value: string) => Promise<unknown>;

async function startOurs(
  target: Target,
  context: TaskContext,
  onWatched: () => void,
  onLogged: () => void,
): Promise<Write> {
  const store = context.stack.use(await openStore(target));
  const { parentCIDR, platform } = clusterConfig;
  await initCluster(store, { parentCIDR, platform });
  const registration = await new Registry(store).register({ node: "n1", uid: "i-1", agentVersion: "1.0.0" });
  const stop = new AbortController();
  const key = keys.node("witness");
  const follow = async () => {
    for await (const _ of store.watch(key, { signal: stop.signal })) onWatched();
  };
  const beat = heartbeat(store, registration, {
    ttlMs: heartbeatTtlMs,
    signal: stop.signal,
    onOwned: onLogged,
    onUnsure: onLogged,
    onProblem: onLogged,
  });
  const running = [follow(), beat];
  for (const each of running) each.catch(() => {});
  context.stack.defer(async () => {
    stop.abort();
    await Promise.allSettled(running);
  });
  return (value) => store.txn({ then: [{ put: key, value }] });
}

async function startRaw(target: Target, context: TaskContext, onWatched: () => void): Promise<Write> {
  const client = context.stack.use(await openRawClient(target));
  await client.follow("witness", onWatched);
  return (value) => client.put("witness", value);
}
