import { Backoff, pause } from "./backoff.ts";

export interface PausesOptions {
  /** Upper bounds of the first and of the longest pause, in milliseconds: fast, then slow. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** How long it all may take, in milliseconds. */
  readonly totalMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds; default `performance.now`. A clock that stands still during a wait makes that wait not count. */
  readonly now?: () => number;
}

/** Growing, jittered pauses between looks or tries, with an end. */
export class Pauses {
  readonly #backoff: Backoff;
  readonly #signal: AbortSignal | undefined;
  readonly #now: () => number;
  readonly #endsAt: number;

  constructor(options: PausesOptions) {
    const { firstMs, maxMs, totalMs, signal, now = () => performance.now() } = options;
    this.#backoff = new Backoff({ firstMs, maxMs });
    this.#signal = signal;
    this.#now = now;
    this.#endsAt = now() + totalMs;
  }

  /**
   * Pauses, at least `atLeastMs`. False, at once, when the time is up.
   *
   * @throws the signal's reason
   */
  async next(atLeastMs = 0): Promise<boolean> {
    const ms = Math.max(this.#backoff.next(), atLeastMs);
    if (this.#now() + ms > this.#endsAt) return false;
    await pause(ms, this.#signal);
    return true;
  }
}
