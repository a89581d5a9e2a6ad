import { AssertionError } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** Something that a check waited for did not happen in time. */
export class TimeoutError extends Error {
  constructor(what: string, ms: number, options?: ErrorOptions) {
    super(`${what}: not within ${Math.round(ms)} ms`, options);
    this.name = "TimeoutError";
  }
}

/**
 * The promise's value.
 * @throws {TimeoutError} naming `what`, when it has not settled after `ms`.
 */
export async function within<T>(what: string, ms: number, promise: PromiseLike<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimeoutError(what, ms)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a probe may take that was begun before the time was over, also on a machine that had stopped meanwhile. */
const graceMs = 1_000;
/** A pause between two probes that has taken longer is one in which the process did not run. */
const longestPauseMs = 250;

/**
 * Calls `probe` until it answers something other than undefined or false, and returns that. A probe that
 * fails is asked again, except when an assertion of its own failed: that is thrown on. Time in which the process does
 * not run, as on a machine that is busy or stopped, is not counted.
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
