/**
 * What must not be asked of a cloud at the same time: any number may pass it together, or one alone. They take turns,
 * so that neither kind starves: after one alone, all who wait to go together; after those, the next alone.
 */
export class Gate {
  readonly #queue = new Set<Waiter>();
  #inside = 0;
  #alone = false;
  /** Whose turn it is, where both wait. */
  #turn: "alone" | "together" = "alone";

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
      if (this.#alone) this.#turn = "together";
      this.#alone = false;
      this.#admit();
    }
  }

  #admit(): void {
    if (this.#alone) return;
    const waiting = [...this.#queue];
    const first = waiting.find((waiter) => waiter.alone);
    // Who comes to go together while one waits to go alone, waits for that one's turn to be over.
    const together = first === undefined || this.#turn === "together" ? waiting.filter((w) => !w.alone) : [];
    this.#turn = "alone";
    for (const waiter of together) this.#enter(waiter);
    if (first !== undefined && this.#inside === 0) {
      this.#alone = true;
      this.#enter(first);
    }
  }

  #enter(waiter: Waiter): void {
    this.#queue.delete(waiter);
    this.#inside++;
    waiter.enter();
  }
}

interface Waiter {
  readonly alone: boolean;
  readonly enter: () => void;
}
