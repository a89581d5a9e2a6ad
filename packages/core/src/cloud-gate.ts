/**
 * What must not be asked of a cloud at the same time: any number may pass it together, or one alone. First come, first
 * served, so that neither kind starves.
 */
export class Gate {
  readonly #queue = new Set<{ readonly alone: boolean; readonly enter: () => void }>();
  #inside = 0;
  #alone = false;

  /** Runs it while nothing that is to be alone runs. @throws the signal's reason, and what `run` throws */
  async together<T>(run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await this.#pass(false, run, signal);
  }

  /** Runs it while nothing else runs. @throws the signal's reason, and what `run` throws */
  async alone<T>(run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await this.#pass(true, run, signal);
  }

  async #pass<T>(alone: boolean, run: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { alone, enter: resolve };
    const onAbort = (): void => {
      if (!this.#queue.delete(waiter)) return;
      reject(signal?.reason);
      this.#admit();
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#queue.add(waiter);
    this.#admit();
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
    try {
      return await run();
    } finally {
      this.#inside--;
      this.#alone = false;
      this.#admit();
    }
  }

  #admit(): void {
    for (const waiter of this.#queue) {
      if (this.#alone || (waiter.alone && this.#inside > 0)) return;
      this.#queue.delete(waiter);
      this.#inside++;
      this.#alone = waiter.alone;
      waiter.enter();
    }
  }
}
