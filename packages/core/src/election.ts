import { Backoff, pause } from "./backoff.ts";
import { AuthError, InvalidError } from "./errors.ts";
import { keys } from "./keys.ts";
import { encode } from "./model.ts";
import type { Compare, Session, Store } from "./store.ts";

export interface CampaignOptions {
  /** Who is leading, for people: host name and pid, say. */
  readonly id: string;
  /** How long after its death the next candidate may have to wait; default 15,000 ms. */
  readonly ttlMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** A problem on the way that will be tried again. */
  readonly onProblem?: (error: unknown) => void;
  /** How it waits between two tries; default by the system's clock. Rejects with the signal's reason. */
  readonly wait?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

/** Held until `signal` aborts. Dispose to resign. */
export interface Leadership extends AsyncDisposable {
  /** Belongs into every transaction of the leader: it fails once somebody else leads. */
  readonly fence: Compare;
  /** Aborts before another candidate can have been elected. */
  readonly signal: AbortSignal;
}

/**
 * Waits until this candidate leads. @throws the signal's reason when aborted; {@link AuthError}; {@link InvalidError}
 * for a TTL that no session can have.
 */
export async function campaign(store: Store, options: CampaignOptions): Promise<Leadership> {
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
  for (;;) {
    options.signal?.throwIfAborted();
    let session: Session | undefined;
    try {
      session = await store.session(options.ttlMs ?? 15_000, { signal: options.signal });
      return await contend(store, session, options);
    } catch (error) {
      await session?.[Symbol.asyncDispose]();
      options.signal?.throwIfAborted();
      // A session that the server has forgotten makes a write invalid: the next session mends that. One that cannot
      // be had for what was asked does not come by asking again.
      if (error instanceof AuthError || (!session && error instanceof InvalidError)) throw error;
      options.onProblem?.(error);
      await (options.wait ?? pause)(backoff.next(), options.signal);
    }
  }
}

async function contend(store: Store, session: Session, options: CampaignOptions): Promise<Leadership> {
  const value = encode({ id: options.id, session: session.id });
  const signal = options.signal ? AbortSignal.any([options.signal, session.signal]) : session.signal;
  for (;;) {
    const result = await store.txn(
      {
        if: [{ key: keys.leader, exists: false }],
        then: [{ put: keys.leader, value, session }],
        else: [{ get: keys.leader }],
      },
      { signal },
    );
    const holder = result.reads[0];
    // Ours already: the answer to an earlier try was lost.
    const createRevision = result.succeeded
      ? result.revision
      : holder?.value === value
        ? holder.createRevision
        : 0;
    if (createRevision > 0) {
      return {
        fence: { key: keys.leader, createRevision },
        signal: session.signal,
        [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
      };
    }
    await vacancy(store, result.revision, signal);
  }
}

async function vacancy(store: Store, fromRevision: number, signal: AbortSignal): Promise<void> {
  for await (const batch of store.watch(keys.leader, { fromRevision, signal })) {
    const free =
      batch.type === "snapshot"
        ? !batch.entries.some((entry) => entry.key === keys.leader)
        : batch.changes.some((change) => change.type === "delete" && change.key === keys.leader);
    if (free) return;
  }
  signal.throwIfAborted();
}
