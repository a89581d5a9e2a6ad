import { keys, type Session } from "@cocoon-net/core";
import { openRawClient } from "../raw/client.ts";
import { nodeName } from "../synthetic-cluster.ts";
import { openStore, type Side, type Target } from "../target.ts";
import type { Task } from "../task.ts";

export interface SessionsParams {
  readonly target: Target;
  readonly side: Side;
  /** Numbers of the nodes. */
  readonly nodes: readonly number[];
  readonly ttlMs: number;
  /** Connections that the sessions share. */
  readonly handles: number;
}

export interface SessionsResult {
  /** Sessions that have ended although they were kept. The raw client does not tell. */
  readonly lost: number;
}

const openAtOnce = 32;

/** Keeps `alive/{node}` for each node until it is told to finish. */
export const keepSessions: Task<SessionsParams, SessionsResult> = async (params, context) => {
  const { target, side, nodes, ttlMs, handles } = params;
  const sessions: Session[] = [];
  const openers = await Promise.all(
    Array.from({ length: handles }, async (): Promise<(node: number) => Promise<void>> => {
      if (side === "raw") {
        const client = context.stack.use(await openRawClient(target));
        return (node) => client.heartbeat(keys.alive(nodeName(node)), ttlMs);
      }
      const store = context.stack.use(await openStore(target));
      return async (node) => {
        const session = await store.session(ttlMs);
        sessions.push(session);
        await store.txn({ then: [{ put: keys.alive(nodeName(node)), value: "{}", session }] });
      };
    }),
  );
  const waiting = [...nodes.entries()];
  await Promise.all(
    Array.from({ length: openAtOnce }, async () => {
      for (let next = waiting.pop(); next; next = waiting.pop()) {
        const [position, node] = next;
        await openers[position % handles]?.(node);
        context.progress(nodes.length - waiting.length);
      }
    }),
  );
  await context.start();
  const { promise, resolve } = Promise.withResolvers<void>();
  if (context.finish.aborted) resolve();
  context.finish.addEventListener("abort", () => resolve());
  await promise;
  return { lost: sessions.filter((session) => session.signal.aborted).length };
};
