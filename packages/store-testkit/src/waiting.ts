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

/**
 * Calls `probe` until it answers something other than undefined or false, and returns that. A probe that
 * fails is asked again, except when an assertion of its own failed: that is thrown on.
 * @throws {TimeoutError} naming `what`, with the probe's last error as its cause, after `ms`.
 */
export async function until<T>(
  what: string,
  ms: number,
  probe: () => T | Promise<T>,
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + ms;
  let cause: unknown;
  for (;;) {
    try {
      const found = await within(what, Math.max(end - performance.now(), 1), Promise.resolve(probe()));
      if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      cause = error;
    }
    if (performance.now() >= end) throw new TimeoutError(what, ms, { cause });
    await sleep(25);
  }
}
