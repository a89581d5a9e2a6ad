import { Backoff, pause } from "@cocoon-net/core";

/** How long the driver waits for what, in milliseconds. Tests are less patient. */
export interface Timing {
  /** One HTTP request, from connecting to the last byte. */
  readonly requestMs: number;
  /** All tries of one call together. */
  readonly retryMs: number;
  /** One asynchronous change at the cloud, e.g. Attaching → InUse. */
  readonly changeMs: number;
  /** First and longest pause between polls and retries: fast, then slow. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** One request to the metadata service. */
  readonly metadataMs: number;
}

export const defaultTiming: Timing = {
  requestMs: 15_000,
  retryMs: 120_000,
  changeMs: 180_000,
  firstPauseMs: 300,
  maxPauseMs: 5_000,
  metadataMs: 1_000,
};

/** Waits with growing, jittered pauses, up to a deadline. */
export class Pauses {
  readonly #backoff: Backoff;
  readonly #endsAt: number;
  readonly #signal: AbortSignal | undefined;

  constructor(timing: Timing, totalMs: number, signal: AbortSignal | undefined) {
    this.#backoff = new Backoff({ firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs });
    this.#endsAt = performance.now() + totalMs;
    this.#signal = signal;
  }

  /**
   * Pauses, at least `atLeastMs`. False, at once, when the time is up.
   *
   * @throws the signal's reason
   */
  async next(atLeastMs = 0): Promise<boolean> {
    const ms = Math.max(this.#backoff.next(), atLeastMs);
    if (performance.now() + ms > this.#endsAt) return false;
    await pause(ms, this.#signal);
    return true;
  }
}
