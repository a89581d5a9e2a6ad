import { Backoff, pause } from "./backoff.ts";
import { AuthError, FencedError } from "./errors.ts";
import { keys } from "./keys.ts";
import type { Registration } from "./registration.ts";
import type { Session, Store } from "./store.ts";

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
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
  let reported = false;
  while (!options.signal?.aborted) {
    let session: Session | undefined;
    let unsure = true;
    try {
      session = await store.session(options.ttlMs ?? 30_000, { signal: options.signal });
      await registration.announce(session, { signal: options.signal });
      reported = false;
      unsure = false;
      backoff.reset();
      await options.onOwned();
      await ownershipEnd(store, registration, session, options.signal);
    } catch (error) {
      if (options.signal?.aborted) break;
      if (error instanceof FencedError || error instanceof AuthError) throw error;
      if (!reported) options.onProblem?.(error);
      reported = true;
    } finally {
      if (!unsure && !options.signal?.aborted) options.onUnsure(session?.signal.reason);
      await session?.[Symbol.asyncDispose]();
    }
    if (!options.signal?.aborted) await pause(backoff.next(), options.signal).catch(() => undefined);
  }
}

/** Returns when the session ends or the registration changes; the caller then proves ownership anew. */
async function ownershipEnd(
  store: Store,
  registration: Registration,
  session: Session,
  stop: AbortSignal | undefined,
): Promise<void> {
  const signal = stop ? AbortSignal.any([stop, session.signal]) : session.signal;
  const key = keys.subnet(registration.node);
  for await (const batch of store.watch(key, { fromRevision: registration.epoch, signal })) {
    const changed =
      batch.type === "snapshot"
        ? batch.entries.find((entry) => entry.key === key)?.modRevision !== registration.epoch
        : batch.changes.some((change) => (change.type === "put" ? change.entry.key : change.key) === key);
    if (changed) await registration.verify({ signal });
  }
}
