import { AssertionError } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** Something that a check waited for did not happen in time. */
export class TimeoutError extends Error {
  constructor(what: string, ms: number, options?: ErrorOptions) {
    super(`${what}: not within ${Math.round(ms)} ms`, options);
    this.name = "TimeoutError";
  }
}

/** What may still take its time when the process did not run, as on a machine that is busy or stopped. */
const graceMs = 1_000;
/** What fires later than that has waited for the process. */
const longestPauseMs = 250;

/**
 * The promise's value. Where the process did not run when the time was over, what had come meanwhile still counts.
 * @throws {TimeoutError} naming `what`, when it has not settled after `ms`.
 */
export async function within<T>(what: string, ms: number, promise: PromiseLike<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  let end = performance.now() + ms;
  let isGranted = false;
  const look = (): void => {
    const left = end - performance.now();
    if (left <= -longestPauseMs && !isGranted) {
      isGranted = true;
      end = performance.now() + graceMs;
      timer = setTimeout(look, graceMs);
      // A timer counts from the loop's last turn, and comes early where the process stood still before it was set.
    } else if (left > 0) timer = setTimeout(look, left);
    else reject(new TimeoutError(what, ms));
  };
  let timer = setTimeout(look, ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Calls `probe` until it answers something other than undefined or false, and returns that. A probe that
 * fails is asked again, except when an assertion of its own failed: that is thrown on. Time in which the process does
 * not run is not counted.
 * @throws {TimeoutError} naming `what`, with the probe's last error as its cause, after `ms`.
 */
export async function until<T>(
  what: string,
  ms: number,
  probe: () => T | Promise<T>,
): Promise<Exclude<T, undefined | false>> {
  let end = performance.now() + ms;
  let cause: unknown;
  for (;;) {
    try {
      const found = await within(what, Math.max(end - performance.now(), graceMs), Promise.resolve(probe()));
      if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      cause = error;
    }
    if (performance.now() >= end) throw new TimeoutError(what, ms, { cause });
    const before = performance.now();
    await sleep(25);
    end += Math.max(performance.now() - before - longestPauseMs, 0);
  }
}
