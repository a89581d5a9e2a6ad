import { Backoff } from "./backoff.ts";
import { InvalidError, UnavailableError } from "./errors.ts";
import { type MonotonicClock, monotonicClock } from "./monotonic-clock.ts";
import type { Session } from "./store.ts";

export interface KeptSessionOptions {
  readonly id: string;
  /** What the caller asked for. The server must have been asked for {@link serverTtlMs} of it. */
  readonly ttlMs: number;
  /** When, by `clock`, the request that opened it was sent: the server's time began then or later. */
  readonly sentAt: number;
  /** Which server, for messages. */
  readonly where: string;
  readonly clock?: MonotonicClock;
  /** Asks the server to go on; false when it says that the session is over. Rejects when it cannot be heard. */
  readonly renew: (timeoutMs: number, signal: AbortSignal) => Promise<boolean>;
  /** Tells the server to end it. May reject: it then ends by the server's clock. */
  readonly end: () => Promise<void>;
}

/**
 * What a backend asks its server for, so that a session of `ttlMs` ends at the client first: a margin for timers
 * that fire late and clocks that run apart.
 * @throws {InvalidError} when `ttlMs` is not a positive number.
 */
export function serverTtlMs(ttlMs: number): number {
  if (!Number.isFinite(ttlMs) || ttlMs <= 0)
    throw new InvalidError(`session TTL ${ttlMs} ms is not positive`);
  return ttlMs + 500 + ttlMs / 100;
}

/** Longest wait for the answer to one renewal. */
const mostRenewalMs = 2_000;
/** What stays for further tries when a renewal is not answered: three of them, with their pauses. */
const retryingMs = 3 * mostRenewalMs;
/** How much sooner a renewal may go out with another question: what two answers may be apart. */
const renewalEarlyMs = 100;

/**
 * The client's side of a session, the same for every backend: renews it at half of its time, a short one sooner so
 * that a lost renewal does not cost the session, and aborts `signal` before the server can have expired it, counted
 * from before the last acknowledged renewal was sent.
 */
export class KeptSession implements Session {
  readonly id: string;
  readonly ttlMs: number;
  readonly #options: KeptSessionOptions;
  readonly #clock: MonotonicClock;
  readonly #over = new AbortController();
  readonly #backoff: Backoff;
  readonly #renewalMs: number;
  #endsAt: number;
  #cancelDeadline: () => void = () => {};
  #cancelRenewal: () => void = () => {};
  #disposed: Promise<void> | undefined;

  constructor(options: KeptSessionOptions) {
    const { id, ttlMs, sentAt, clock = monotonicClock } = options;
    this.id = id;
    this.ttlMs = ttlMs;
    this.#options = options;
    this.#clock = clock;
    this.#backoff = new Backoff({ firstMs: Math.min(200, ttlMs / 10), maxMs: Math.min(1_000, ttlMs / 6) });
    this.#endsAt = sentAt + ttlMs;
    this.#provenAt(sentAt);
    this.#renewalMs = Math.max(ttlMs / 3, Math.min(ttlMs / 2, ttlMs - retryingMs));
    this.#renewAfter(this.#renewalMs);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Stops keeping it alive, without telling the server. */
  abandon(reason: string): void {
    if (this.signal.aborted) return;
    this.#cancelDeadline();
    this.#cancelRenewal();
    this.#over.abort(
      new UnavailableError(`session ${this.id} on ${this.#options.where} is over: ${reason}`, {
        outcome: "none",
        hint: "stop what depends on it, then open a new session",
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.abandon("it was disposed");
    try {
      await this.#options.end();
    } catch {
      // Gone already, or out of reach: then it ends by the server's clock.
    }
  }

  /** The server has had it for its full time since `sentAt` or later. */
  #provenAt(sentAt: number): void {
    const now = this.#clock.now();
    // After a stop of this process an answer may be read before the timer runs: what is over stays over.
    if (now >= this.#endsAt) this.abandon("the server was not heard in time");
    if (this.signal.aborted) return;
    this.#cancelDeadline();
    this.#endsAt = sentAt + this.ttlMs;
    this.#cancelDeadline = this.#clock.after(Math.max(this.#endsAt - now, 0), () =>
      this.abandon("the server was not heard in time"),
    );
  }

  #renewAfter(ms: number): void {
    if (this.signal.aborted) return;
    this.#cancelRenewal = this.#clock.after(ms, () => void this.#renew(), Math.min(renewalEarlyMs, ms / 10));
  }

  async #renew(): Promise<void> {
    const sentAt = this.#clock.now();
    let nextMs = this.#renewalMs;
    try {
      const timeoutMs = Math.max(1, Math.round(Math.min(this.ttlMs / 3, mostRenewalMs)));
      if (await this.#options.renew(timeoutMs, this.signal)) this.#provenAt(sentAt);
      else this.abandon("the server has ended it");
      this.#backoff.reset();
    } catch {
      // Out of reach: asked again soon, until the deadline ends it.
      nextMs = this.#backoff.next();
    }
    this.#renewAfter(nextMs);
  }
}
