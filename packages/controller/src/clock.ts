import { pause } from "@cocoon-net/core";

/** The time a controller lives by; tests give it a virtual one. */
export interface Clock {
  /** Wall clock, only for the times that people read in records. No decision depends on it. */
  now(): Date;
  /** Milliseconds that only grow; the origin does not matter. Every duration is measured with it. */
  monotonic(): number;
  /** Resolves after `ms`. @throws the signal's reason when it aborts. */
  wait(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonic: () => performance.now(),
  wait: pause,
};
