import { setTimeout as sleep } from "node:timers/promises";

/** The promise's value; rejects with a line that names `what` when it has not settled after `ms`. */
export async function within<T>(what: string, ms: number, promise: PromiseLike<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Calls `probe` until it answers something other than undefined or false, and returns that. Rejects with a
 * line that names `what`, and the probe's last error as its cause, after `ms`.
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
      cause = error;
    }
    if (performance.now() >= end) throw new Error(`${what}: not within ${ms} ms`, { cause });
    await sleep(25);
  }
}
