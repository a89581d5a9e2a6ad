import type { SimulatorClock } from "./clock.ts";

export interface BucketRate {
  readonly perSecond: number;
  readonly burst: number;
}

/** How many requests are let through. */
export interface RateLimit {
  /** Lets one through and gives 0, or refuses it and gives how long until there is room, in milliseconds. */
  take(): number;
}

/** Refills steadily, up to its burst. */
export class TokenBucket implements RateLimit {
  readonly #rate: BucketRate;
  readonly #clock: SimulatorClock;
  #tokens: number;
  #countedAt: number;

  constructor(rate: BucketRate, clock: SimulatorClock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#tokens = rate.burst;
    this.#countedAt = clock.now();
  }

  take(): number {
    const { perSecond, burst } = this.#rate;
    const now = this.#clock.now();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#countedAt) / 1000) * perSecond);
    this.#countedAt = now;
    if (this.#tokens < 1) return ((1 - this.#tokens) * 1000) / perSecond;
    this.#tokens--;
    return 0;
  }
}

/** Refills all at once, at each minute of the clock. */
export class MinuteBucket implements RateLimit {
  readonly #limit: number;
  readonly #minuteMs: number;
  readonly #clock: SimulatorClock;
  #minute = Number.NaN;
  #used = 0;

  /** @param minuteMs length of that "minute" */
  constructor(limit: number, minuteMs: number, clock: SimulatorClock) {
    this.#limit = limit;
    this.#minuteMs = minuteMs;
    this.#clock = clock;
  }

  take(): number {
    const now = this.#clock.now();
    const minute = Math.floor(now / this.#minuteMs);
    if (minute !== this.#minute) this.#used = 0;
    this.#minute = minute;
    if (this.#used >= this.#limit) return (minute + 1) * this.#minuteMs - now;
    this.#used++;
    return 0;
  }
}
