import {
  Backoff,
  type CallOptions,
  InvalidError,
  pause,
  type Session,
  UnavailableError,
} from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";

/** How long the disposing of a session waits for the server. */
const revokeTimeoutMs = 2_000;

/**
 * An etcd lease that is renewed at a third of its time. The server gives it longer than `ttlMs`, and ours
 * counts from before the last acknowledged renewal was sent: `signal` aborts while the server still has it.
 */
export class EtcdSession implements Session {
  readonly id: string;
  readonly ttlMs: number;
  readonly connection: EtcdConnection;
  readonly #over = new AbortController();
  #endsAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #disposed: Promise<void> | undefined;

  private constructor(connection: EtcdConnection, id: string, ttlMs: number, sentAt: number) {
    this.connection = connection;
    this.id = id;
    this.ttlMs = ttlMs;
    this.#provenAt(sentAt);
    void this.#renew();
  }

  /** @throws {InvalidError} when `ttlMs` is not a positive number. */
  static async open(connection: EtcdConnection, ttlMs: number, options?: CallOptions): Promise<EtcdSession> {
    if (!Number.isFinite(ttlMs) || ttlMs <= 0)
      throw new InvalidError(`session TTL ${ttlMs} ms is not positive`);
    let sentAt = 0;
    const grant = await connection.call(
      {
        what: "open a session",
        writes: true,
        send: (client, limit) => {
          sentAt = performance.now();
          return client.leaseClient.leaseGrant({ TTL: serverTtlSeconds(ttlMs) }, limit);
        },
      },
      options,
    );
    return new EtcdSession(connection, grant.ID, ttlMs, sentAt);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#end("it was disposed");
    try {
      await this.connection.call(
        {
          what: `end session ${this.id}`,
          writes: true,
          send: (client, limit) => client.leaseClient.leaseRevoke({ ID: this.id }, limit),
        },
        { timeoutMs: revokeTimeoutMs },
      );
    } catch {
      // Gone already, or out of reach: then it ends by the server's clock.
    }
  }

  async #renew(): Promise<void> {
    const tryMs = Math.min(this.ttlMs / 3, 2_000);
    const backoff = new Backoff({
      firstMs: Math.min(200, this.ttlMs / 10),
      maxMs: Math.min(1_000, this.ttlMs / 6),
    });
    let waitMs = this.ttlMs / 3;
    while (!this.signal.aborted) {
      try {
        await pause(waitMs, this.signal);
        const sentAt = performance.now();
        const secondsLeft = await this.connection.renewLease(this.id, tryMs, this.signal);
        if (secondsLeft <= 0) this.#end("the server has ended it");
        else this.#provenAt(sentAt);
        backoff.reset();
        waitMs = this.ttlMs / 3;
      } catch {
        // Ended (the loop sees it), or unreachable: again and again, until the timer ends it.
        waitMs = backoff.next();
      }
    }
  }

  /** The server has had it for its full time since `sentAt` or later. */
  #provenAt(sentAt: number): void {
    // After a stop of this process the answer may be read before the timer runs: what is over stays over.
    if (this.#endsAt > 0 && performance.now() >= this.#endsAt) this.#end("the server was not heard in time");
    if (this.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#endsAt = sentAt + this.ttlMs;
    this.#timer = setTimeout(
      () => this.#end("the server was not heard in time"),
      Math.max(this.#endsAt - performance.now(), 0),
    );
  }

  #end(reason: string): void {
    clearTimeout(this.#timer);
    this.#over.abort(
      new UnavailableError(`session ${this.id} on etcd ${this.connection.where} is over: ${reason}`, {
        outcome: "none",
        hint: "stop what depends on it, then open a new session",
      }),
    );
  }
}

/**
 * What to ask of etcd, which counts whole seconds: longer than the client's time by a margin for timers that
 * fire late and clocks that run apart.
 */
export function serverTtlSeconds(ttlMs: number): number {
  return Math.ceil((ttlMs + 500 + ttlMs / 100) / 1_000);
}
