import { Backoff, pause } from "./backoff.ts";
import { AuthError, FencedError } from "./errors.ts";
import { keys } from "./keys.ts";
import type { Registration } from "./registration.ts";
import type { Revision, Store } from "./store.ts";

export interface HeartbeatOptions {
  /** Default 30,000 ms. */
  readonly ttlMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** The store has confirmed ownership: new grants may be made until `onUnsure`. Called on every reconnect. */
  readonly onOwned: () => void | Promise<void>;
  /** Ownership can no longer be proved by this node's own clock: renew, but grant nothing new (G7). */
  readonly onUnsure: (reason: unknown) => void;
  /** A problem that will be tried again; once per change, not once per try. */
  readonly onProblem?: (error: unknown) => void;
}

/**
 * Keeps `alive/{node}` in the store for as long as the node owns its subnet, and tells when it cannot be sure.
 * Resolves when `signal` aborts. @throws {FencedError} when the subnet belongs to somebody else (G3);
 * {@link AuthError} when the store refuses the node.
 */
export async function heartbeat(
  store: Store,
  registration: Registration,
  options: HeartbeatOptions,
): Promise<void> {
  const { signal } = options;
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
  let reported = false;
  while (!signal?.aborted) {
    try {
      await using session = await store.session(options.ttlMs ?? 30_000, { signal });
      const held = signal ? AbortSignal.any([signal, session.signal]) : session.signal;
      const revision = await registration.announce(session, { signal: held });
      held.throwIfAborted();
      // G7: every way out of here ends the session, and its end is told at that moment, whatever `onOwned` is doing.
      session.signal.addEventListener("abort", () => {
        if (!signal?.aborted) options.onUnsure(session.signal.reason);
      });
      await options.onOwned();
      reported = false;
      backoff.reset();
      await ownershipEnd(store, registration, revision, held);
    } catch (error) {
      if (signal?.aborted) break;
      if (error instanceof FencedError || error instanceof AuthError) throw error;
      if (!reported) options.onProblem?.(error);
      reported = true;
    }
    if (!signal?.aborted) await pause(backoff.next(), signal).catch(() => undefined);
  }
}

/** Returns when `signal` aborts. The watch tells of every change of the node's claim after `revision`. */
async function ownershipEnd(
  store: Store,
  registration: Registration,
  fromRevision: Revision,
  signal: AbortSignal,
): Promise<void> {
  const key = keys.subnet(registration.node);
  for await (const batch of store.watch(key, { fromRevision, signal })) {
    const changed =
      batch.type === "snapshot"
        ? batch.entries.find((entry) => entry.key === key)?.modRevision !== registration.epoch
        : batch.changes.some((change) => (change.type === "put" ? change.entry.key : change.key) === key);
    if (changed) await registration.verify({ signal });
  }
}
