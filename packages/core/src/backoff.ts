import { setTimeout as delay } from "node:timers/promises";

export interface BackoffOptions {
  /** Upper bound of the first pause; default 100 ms. */
  readonly firstMs?: number;
  /** Upper bound of any pause; default 5,000 ms. */
  readonly maxMs?: number;
  /** Uniform in [0, 1); default `Math.random`. */
  readonly random?: () => number;
}

/** Growing pauses with jitter between half and the whole of each bound, which doubles up to `maxMs`. */
export class Backoff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #boundMs: number;

  constructor(options: BackoffOptions = {}) {
    this.#firstMs = options.firstMs ?? 100;
    this.#maxMs = options.maxMs ?? 5_000;
    this.#random = options.random ?? Math.random;
    this.#boundMs = this.#firstMs;
  }

  /** The next pause, in milliseconds. */
  next(): number {
    const bound = this.#boundMs;
    this.#boundMs = Math.min(bound * 2, this.#maxMs);
    return bound / 2 + (this.#random() * bound) / 2;
  }

  /** Call once things have worked for a while, not at the first success. */
  reset(): void {
    this.#boundMs = this.#firstMs;
  }

  /** Waits for the next pause. Rejects with the signal's reason when aborted. */
  async wait(signal?: AbortSignal): Promise<void> {
    await pause(this.next(), signal);
  }
}

/** Waits. @throws the signal's reason when it aborts. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
