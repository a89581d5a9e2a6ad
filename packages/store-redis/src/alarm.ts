import { monotonicClock } from "@cocoon-net/core";

/** A pause that can be ended early. */
export class Alarm {
  #rung = false;
  #end: (() => void) | undefined;

  /** Ends the pause, or, between two, the next one before it begins. */
  ring(): void {
    this.#rung = true;
    this.#end?.();
  }

  /** Resolves after `ms` or up to `earlyMs` sooner, when it is rung, or when `signal` aborts. */
  async wait(ms: number, signal: AbortSignal, earlyMs = 0): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const end = () => resolve();
      const cancel = monotonicClock.after(ms, end, earlyMs);
      signal.addEventListener("abort", end);
      this.#end = end;
      await promise;
      cancel();
      signal.removeEventListener("abort", end);
      this.#end = undefined;
    }
    this.#rung = false;
  }
}
