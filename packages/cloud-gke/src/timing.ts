import { Backoff, pause } from "@cocoon-net/core";

/** How long the driver waits for what, in milliseconds. Tests are less patient. */
export interface Timing {
  /** One HTTP request, from connecting to the last byte. */
  readonly requestMs: number;
  /** One `operations.wait`, which the server holds open for up to two minutes. */
  readonly waitRequestMs: number;
  /** All tries of one call together: more than the minute after which a rate limit is refilled. */
  readonly retryMs: number;
  /** One change of an interface or a subnetwork, conflicts with other writers included. */
  readonly changeMs: number;
  /** First and longest pause between retries. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** First pause after a refusal for the rate; those grow to `maxThrottlePauseMs`. */
  readonly firstThrottlePauseMs: number;
  readonly maxThrottlePauseMs: number;
  /** One request to the metadata server. */
  readonly metadataMs: number;
}

export const defaultTiming: Timing = {
  requestMs: 30_000,
  waitRequestMs: 150_000,
  retryMs: 240_000,
  changeMs: 600_000,
  firstPauseMs: 500,
  maxPauseMs: 10_000,
  firstThrottlePauseMs: 2_000,
  maxThrottlePauseMs: 60_000,
  metadataMs: 1_000,
};

/** Waits with growing, jittered pauses, up to a deadline. */
export class Pauses {
  readonly #pauses: Backoff;
  readonly #throttlePauses: Backoff;
  readonly #endsAt: number;
  readonly #signal: AbortSignal | undefined;

  constructor(timing: Timing, totalMs: number, signal: AbortSignal | undefined) {
    this.#pauses = new Backoff({ firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs });
    this.#throttlePauses = new Backoff({
      firstMs: timing.firstThrottlePauseMs,
      maxMs: timing.maxThrottlePauseMs,
    });
    this.#endsAt = performance.now() + totalMs;
    this.#signal = signal;
  }

  /** Pauses. False, at once, when the time is up. @throws the signal's reason */
  async next(): Promise<boolean> {
    return await this.#wait(this.#pauses.next());
  }

  /** Pauses after a refusal for the rate, at least `atLeastMs`. False, at once, when the time is up. */
  async nextThrottled(atLeastMs = 0): Promise<boolean> {
    return await this.#wait(Math.max(this.#throttlePauses.next(), atLeastMs));
  }

  async #wait(ms: number): Promise<boolean> {
    if (performance.now() + ms > this.#endsAt) return false;
    await pause(ms, this.#signal);
    return true;
  }
}
