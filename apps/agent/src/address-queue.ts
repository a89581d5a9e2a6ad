import { Backoff, describeError } from "@cocoon-net/core";

/** Addresses that something is to be done about, one after the other. What fails is tried again, later and later. */
export class AddressQueue {
  readonly #waiting = new Set<string>();
  readonly #onProblem: (problem: string, error: unknown) => void;
  #wake: () => void = () => {};
  #reported = "";

  /** @param onProblem told of each failure that is not the one before it again */
  constructor(onProblem: (problem: string, error: unknown) => void) {
    this.#onProblem = onProblem;
  }

  /** Its turn comes with the next {@link wake}, if nothing is being done now. */
  add(ip: string): void {
    this.#waiting.add(ip);
  }

  wake(): void {
    this.#wake();
  }

  /** Works until the signal aborts. Never rejects. */
  async work(settle: (ip: string) => Promise<void>, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ firstMs: 100, maxMs: 5_000 });
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const [ip] = this.#waiting;
      if (ip === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#waiting.delete(ip);
      try {
        await settle(ip);
        backoff.reset();
        this.#reported = "";
      } catch (error) {
        this.#waiting.add(ip);
        if (signal.aborted) return;
        const problem = `${ip}: ${describeError(error)}`;
        if (problem !== this.#reported) this.#onProblem(problem, error);
        this.#reported = problem;
        await backoff.wait(signal).catch(() => undefined);
      }
    }
  }
}
