import { Backoff } from "@cocoon-net/core";

const patienceMs = 60_000;

/**
 * Tries again what may be done twice, as agents do, until it works: on a busy machine a server may not answer for some
 * seconds. `onFailure` is told of every try that failed. @throws the last failure, after a minute
 */
export async function patiently<T>(work: () => Promise<T>, onFailure: () => void = () => {}): Promise<T> {
  const end = performance.now() + patienceMs;
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
  for (;;) {
    try {
      return await work();
    } catch (error) {
      onFailure();
      if (performance.now() > end) throw error;
      await backoff.wait();
    }
  }
}
