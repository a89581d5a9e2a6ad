import type { Session } from "@cocoon-net/core";
import type { MemoryClock } from "./clock.ts";

/** How a session reaches its server. Both reject when the server cannot be reached. */
export interface SessionCalls {
  /** False when the server says that the session is over. */
  keepAlive(id: string): Promise<boolean>;
  end(id: string): Promise<void>;
}

/** Share of the TTL after which the client gives up, before the server can have. */
const clientShare = 0.9;

/** The client's side of a session: keeps it alive, and knows when it can no longer be sure that it is. */
export class MemorySession implements Session {
  readonly id: string;
  readonly ttlMs: number;
  readonly #calls: SessionCalls;
  readonly #clock: MemoryClock;
  readonly #over = new AbortController();
  #cancelDeadline: () => void = () => {};
  #cancelKeepAlive: () => void = () => {};
  #disposal: Promise<void> | undefined;

  /** `askedAt`: when the request that opened it was sent; the server's time started at that or later. */
  constructor(id: string, ttlMs: number, askedAt: number, calls: SessionCalls, clock: MemoryClock) {
    this.id = id;
    this.ttlMs = ttlMs;
    this.#calls = calls;
    this.#clock = clock;
    this.#provenAt(askedAt);
    this.#scheduleKeepAlive();
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Stops keeping it alive without telling the server. */
  abandon(reason: string): void {
    this.#cancelDeadline();
    this.#cancelKeepAlive();
    this.#over.abort(new Error(`session ${this.id} is over: ${reason}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#end();
    await this.#disposal;
  }

  async #end(): Promise<void> {
    this.abandon("it was disposed");
    try {
      await this.#calls.end(this.id);
    } catch {
      // Out of reach: it ends by the server's clock.
    }
  }

  #provenAt(sentAt: number): void {
    this.#cancelDeadline();
    const left = sentAt + this.ttlMs * clientShare - this.#clock.now();
    this.#cancelDeadline = this.#clock.after(left, () => this.abandon("the server was not heard in time"));
  }

  #scheduleKeepAlive(): void {
    this.#cancelKeepAlive = this.#clock.after(this.ttlMs / 3, () => void this.#keepAlive());
  }

  async #keepAlive(): Promise<void> {
    const sentAt = this.#clock.now();
    let alive = true;
    try {
      alive = await this.#calls.keepAlive(this.id);
      if (alive && !this.signal.aborted) this.#provenAt(sentAt);
    } catch {
      // Unreachable: tried again below until the deadline ends the session.
    }
    if (this.signal.aborted) return;
    if (alive) this.#scheduleKeepAlive();
    else this.abandon("the server has ended it");
  }
}
