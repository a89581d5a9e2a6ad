import { Backoff, pause, type Session } from "@cocoon-net/core";

/** How a session reaches its server. Both reject when the server cannot be reached. */
export interface SessionCalls {
  /** False when the server says that the session is over. */
  renew(timeoutMs: number): Promise<boolean>;
  end(): Promise<void>;
}

/** Share of the TTL after which the client gives up: late timers and unequal clocks must not make it outlive the server's. */
const clientShare = 0.9;

/** The client's side of a session: keeps it alive, and knows when it can no longer be sure that it is. */
export class RedisSession implements Session {
  readonly id: string;
  readonly ttlMs: number;
  readonly #calls: SessionCalls;
  readonly #now: () => number;
  readonly #over = new AbortController();
  #deadline: NodeJS.Timeout | undefined;
  #disposal: Promise<void> | undefined;

  /**
   * `askedAt`: when the request that opened it was sent, by `now`, a monotonic clock in milliseconds. The
   * server's time started then or later.
   */
  constructor(id: string, ttlMs: number, askedAt: number, calls: SessionCalls, now: () => number) {
    this.id = id;
    this.ttlMs = ttlMs;
    this.#calls = calls;
    this.#now = now;
    this.#provenAt(askedAt);
    void this.#keepAlive();
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Stops keeping it alive without telling the server. */
  abandon(reason: string): void {
    clearTimeout(this.#deadline);
    this.#over.abort(new Error(`session ${this.id} is over: ${reason}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#end();
    await this.#disposal;
  }

  async #end(): Promise<void> {
    this.abandon("it was disposed");
    try {
      await this.#calls.end();
    } catch {
      // Out of reach: it ends by the server's clock.
    }
  }

  #provenAt(sentAt: number): void {
    clearTimeout(this.#deadline);
    const left = Math.max(0, sentAt + this.ttlMs * clientShare - this.#now());
    this.#deadline = setTimeout(() => this.abandon("the server was not heard in time"), left);
  }

  async #keepAlive(): Promise<void> {
    const third = this.ttlMs / 3;
    const backoff = new Backoff({ maxMs: Math.max(100, Math.min(third, 1_000)) });
    let waitMs = third;
    while (!this.signal.aborted) {
      try {
        await pause(waitMs, this.signal);
        const sentAt = this.#now();
        const alive = await this.#calls.renew(Math.max(1, Math.round(third)));
        if (this.signal.aborted) return;
        if (!alive) return this.abandon("the server has ended it");
        this.#provenAt(sentAt);
        backoff.reset();
        waitMs = third;
      } catch {
        // Unreachable: asked again soon, until the deadline ends the session.
        waitMs = backoff.next();
      }
    }
  }
}
