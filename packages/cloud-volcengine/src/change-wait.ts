import { Pauses } from "@cocoon-net/core";
import type { Timing } from "./timing.ts";

/** What the cloud does some time after it was asked. */
export type ChangeKind = "detach" | "delete";

/** How long each kind takes, in milliseconds, as this process has seen it last. */
export type ChangeTimes = Map<ChangeKind, number>;

/** How long one takes before any has been seen, in first pauses. */
const firstGuess: Readonly<Record<ChangeKind, number>> = { detach: 4, delete: 2 };
/** How much later another look is, in parts of the time since the request: after one that was nearly right, and else. */
const nearly = 0.1;
const growth = 0.3;
/** Done at the first look, it may have been done long before: the next is expected sooner, much so after a guess. */
const sooner = 0.95;
const soonerThanGuessed = 0.5;
/** One slow change is not the measure of all. */
const mostSlower = 1.5;

export interface ChangeWaitOptions {
  readonly kind: ChangeKind;
  /** Shared by all waits of the process. */
  readonly times: ChangeTimes;
  readonly timing: Timing;
  readonly signal: AbortSignal | undefined;
  /** Milliseconds; stands still while a request waits for the budget. */
  readonly now: () => number;
}

/**
 * When to look whether what was asked for has happened: when it is to be expected of the last of it, as the changes
 * before have shown. A look before that would be in vain, and later ones delay what follows.
 */
export class ChangeWait {
  readonly #options: ChangeWaitOptions;
  readonly #pauses: Pauses;
  #askedAt: number;
  #asked = false;
  #looks = 0;

  constructor(options: ChangeWaitOptions) {
    this.#options = options;
    this.#pauses = pausesOf(options);
    this.#askedAt = options.now();
  }

  /** One more was asked for just now. */
  asked(): void {
    this.#asked = true;
    this.#askedAt = this.#options.now();
    this.#looks = 0;
  }

  /** Pauses until the next look. False, at once, when {@link Timing.changeMs} are over. @throws the signal's reason */
  async next(): Promise<boolean> {
    const { kind, times, timing, now } = this.#options;
    const age = now() - this.#askedAt;
    const known = times.get(kind);
    const later = age * (this.#looks === 1 && known !== undefined ? nearly : growth);
    const pauseMs =
      this.#looks === 0
        ? (known ?? firstGuess[kind] * timing.firstPauseMs) - age
        : Math.min(later, timing.maxPauseMs);
    this.#looks += 1;
    return await this.#pauses.next(pauseMs);
  }

  /** The last look has shown all of it done. */
  done(): void {
    if (!this.#asked || this.#looks === 0) return;
    const { kind, times, now } = this.#options;
    const known = times.get(kind);
    const early = known === undefined ? soonerThanGuessed : sooner;
    const age = (now() - this.#askedAt) * (this.#looks === 1 ? early : 1);
    times.set(kind, Math.min(age, (known ?? Infinity) * mostSlower));
  }
}

/** With an end, and as short as the wait makes them. */
function pausesOf({ timing, signal, now }: ChangeWaitOptions): Pauses {
  const { firstPauseMs: firstMs, changeMs: totalMs } = timing;
  return new Pauses({ firstMs, maxMs: firstMs, totalMs, signal, now });
}
