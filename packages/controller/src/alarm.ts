import type { Clock } from "./clock.ts";

/** What happens closer together than this is looked at together, in milliseconds. */
const togetherMs = 50;

/**
 * Wakes those who wait for something to happen. Each says how many rings it knew of before it looked, so that what
 * happens while it looks is not slept over.
 */
export class Alarm {
  readonly #clock: Clock;
  readonly #sleepers = new Set<() => void>();
  #rings = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How often it has rung. */
  get rings(): number {
    return this.#rings;
  }

  /** Something has happened: whoever sleeps, looks. */
  ring(): void {
    this.#rings += 1;
    for (const wake of this.#sleepers) wake();
  }

  /**
   * Sleeps until it has rung more often than `known`, or `ms` have passed; a moment at least.
   * @throws the signal's reason
   */
  async sleep(ms: number, known: number, signal: AbortSignal): Promise<void> {
    await this.#clock.wait(togetherMs, signal);
    if (this.#rings !== known || ms <= togetherMs) return;
    const rung = new AbortController();
    const wake = () => rung.abort();
    this.#sleepers.add(wake);
    try {
      await this.#clock.wait(ms - togetherMs, AbortSignal.any([signal, rung.signal]));
    } catch (error) {
      signal.throwIfAborted();
      if (!rung.signal.aborted) throw error;
    } finally {
      this.#sleepers.delete(wake);
    }
  }
}
