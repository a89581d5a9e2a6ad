/** A pause that can be ended early. */
export class Alarm {
  #rung = false;
  #end: (() => void) | undefined;

  /** Ends the pause, or, between two, the next one before it begins. */
  ring(): void {
    this.#rung = true;
    this.#end?.();
  }

  /** Resolves after `ms`, when it is rung, or when `signal` aborts. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const end = () => resolve();
      const timer = setTimeout(end, ms);
      signal.addEventListener("abort", end);
      this.#end = end;
      await promise;
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      this.#end = undefined;
    }
    this.#rung = false;
  }
}
