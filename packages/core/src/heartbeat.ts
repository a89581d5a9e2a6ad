import { Backoff, pause } from "./backoff.ts";
import { AuthError, describeError, FencedError, UnavailableError } from "./errors.ts";
import { keys } from "./keys.ts";
import { monotonicClock } from "./monotonic-clock.ts";
import type { Registration } from "./registration.ts";
import type { Revision, Store } from "./store.ts";

export interface HeartbeatOptions {
  /** Default 30,000 ms. */
  readonly ttlMs?: number;
  readonly signal?: AbortSignal | undefined;
  /**
   * The store has confirmed ownership: new grants may be made until `onUnsure`. Called on every reconnect, and when the
   * store may have lost writes: bring it up to date then.
   */
  readonly onOwned: () => void | Promise<void>;
  /** Ownership can no longer be proved by this node's own clock: renew, but grant nothing new (G7). */
  readonly onUnsure: (reason: unknown) => void;
  /** A problem that will be tried again; once per change, not once per try. */
  readonly onProblem?: (error: unknown) => void;
}

/**
 * Keeps `alive/{node}` in the store for as long as the node owns its subnet, and tells when it cannot be sure. A store
 * that may have lost writes is told again what the node owns, and `onOwned` is called anew, as leases may be missing
 * there too. One that is empty, or holds another cluster, makes the node unsure until it is back (G8).
 * Resolves when `signal` aborts. @throws {FencedError} when the subnet belongs to somebody else (G3);
 * {@link AuthError} when the store refuses the node.
 */
export async function heartbeat(
  store: Store,
  registration: Registration,
  options: HeartbeatOptions,
): Promise<void> {
  const { signal, ttlMs = 30_000 } = options;
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
  let reported = "";
  while (!signal?.aborted) {
    try {
      await registration.confirm({ signal });
      await using session = await store.session(ttlMs, { signal });
      const held = signal ? AbortSignal.any([signal, session.signal]) : session.signal;
      const revision = await registration.announce(session, { signal: held });
      held.throwIfAborted();
      // G7: every way out of here ends the session, and its end is told at that moment, whatever `onOwned` is doing.
      session.signal.addEventListener("abort", () => {
        if (!signal?.aborted) options.onUnsure(session.signal.reason);
      });
      const ownership = new Ownership(registration, options.onOwned, held);
      await ownership.begin();
      reported = "";
      backoff.reset();
      await untilFirstEnds(held, [
        (until) => ownership.watch(store, revision, until),
        (until) => ownership.confirmEvery(Math.min(ttlMs, registration.config.recoveryMs / 2), until),
      ]);
    } catch (error) {
      if (signal?.aborted) break;
      if (error instanceof FencedError || error instanceof AuthError) throw error;
      // The words of an outage differ from try to try.
      const problem = error instanceof UnavailableError ? "unavailable" : describeError(error);
      if (problem !== reported) options.onProblem?.(error);
      reported = problem;
    }
    if (!signal?.aborted) await pause(backoff.next(), signal).catch(() => undefined);
  }
}

/** What a session's time is spent on: noticing that the subnet is lost, or that the store has lost it. */
class Ownership {
  readonly #registration: Registration;
  readonly #onOwned: () => void | Promise<void>;
  readonly #held: AbortSignal;
  /** The incarnation in which the caller was last told that the subnet is its own. */
  #told: string | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(registration: Registration, onOwned: () => void | Promise<void>, held: AbortSignal) {
    this.#registration = registration;
    this.#onOwned = onOwned;
    this.#held = held;
  }

  async begin(): Promise<void> {
    this.#told = this.#registration.incarnation;
    await this.#onOwned();
  }

  /** Returns when `until` aborts. The watch tells of every change of the node's claim after `revision`. */
  async watch(store: Store, fromRevision: Revision, until: AbortSignal): Promise<void> {
    const key = keys.subnet(this.#registration.node);
    for await (const batch of store.watch(key, { fromRevision, signal: until })) {
      const { epoch } = this.#registration;
      const changed =
        batch.type === "snapshot"
          ? batch.entries.find((entry) => entry.key === key)?.modRevision !== epoch
          : batch.changes.some((change) => (change.type === "put" ? change.entry.key : change.key) === key);
      if (changed) await this.#confirm();
    }
  }

  /** Returns when `until` aborts. Not every loss shows in the claim: the newest leases may be missing alone. */
  async confirmEvery(periodMs: number, until: AbortSignal): Promise<void> {
    for (;;) {
      await pauseAbout(periodMs, until);
      if (until.aborted) return;
      try {
        await this.#confirm();
      } catch (error) {
        // Whether the store can be reached in time is for the session to say.
        if (!(error instanceof UnavailableError) && !until.aborted) throw error;
      }
    }
  }

  #confirm(): Promise<void> {
    this.#turn = this.#turn
      .catch(() => {})
      .then(async () => {
        await this.#registration.confirm({ signal: this.#held });
        if (this.#registration.incarnation !== this.#told) await this.begin();
      });
    return this.#turn;
  }
}

/** Ends up to a tenth sooner, with a renewal of the session, and when `until` aborts. */
function pauseAbout(ms: number, until: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onAbort = () => resolve();
  const cancel = monotonicClock.after(ms, resolve, ms / 10);
  until.addEventListener("abort", onAbort);
  if (until.aborted) resolve();
  return promise.finally(() => {
    cancel();
    until.removeEventListener("abort", onAbort);
  });
}

/** Runs all until one of them ends; then the others are told to. @throws the first failure */
async function untilFirstEnds(
  signal: AbortSignal,
  tasks: readonly ((until: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    tasks.map((task) =>
      task(until)
        .catch((error: unknown) => {
          if (!signal.aborted) failures.push(error);
        })
        .finally(() => stop.abort()),
    ),
  );
  if (failures.length > 0) throw failures[0];
}
