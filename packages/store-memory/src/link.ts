import { type CallOptions, type MonotonicClock, UnavailableError } from "@cocoon-net/core";

/** One call on its way: what to say about it, and whether it may write. */
export interface LinkCall extends CallOptions {
  readonly what: string;
  readonly writes: boolean;
  /** Ends the call early, as the closing of the client does. */
  readonly closed: AbortSignal;
}

type State = "pass" | "refuse" | "blackhole";

/**
 * The "network" between one store handle and its database, with the faults a real one has. It starts by
 * passing everything. What it holds while black-holed is applied when it passes again, as bytes that wait
 * in a TCP connection are.
 */
export class MemoryLink implements AsyncDisposable {
  #state: State = "pass";
  #delayMs = 0;
  #swallow = 0;
  readonly #held = new Set<() => void>();
  readonly #cutters = new Set<() => void>();
  readonly #listeners = new Set<() => void>();

  /** Whether the server can be heard: watches stand still otherwise. */
  get passing(): boolean {
    return this.#state === "pass";
  }

  /** Ends every fault. */
  pass(): void {
    this.#delayMs = 0;
    this.#swallow = 0;
    this.#enter("pass");
    const held = [...this.#held];
    this.#held.clear();
    for (const apply of held) apply();
  }

  /** Drops all calls that are under way. */
  cut(): void {
    this.#held.clear();
    for (const cut of [...this.#cutters]) cut();
  }

  /** Drops all calls and takes no new ones. */
  refuse(): void {
    this.#enter("refuse");
    this.cut();
  }

  /** Takes everything and answers nothing. */
  blackhole(): void {
    this.#enter("blackhole");
  }

  /** The next `count` calls are applied and their answers lost. */
  swallow(count = 1): void {
    this.#swallow += count;
  }

  /** Holds each answer back for `ms`. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse();
  }

  /** Calls `listener` when {@link passing} changes; the answer ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Applies `apply` on the other side and brings back its answer.
   * @throws {UnavailableError} refused (outcome none); cut, closed or no answer in time (outcome unknown
   * for writes); the signal's reason when aborted.
   */
  carry<T>(call: LinkCall, clock: MonotonicClock, apply: () => T): Promise<T> {
    call.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timeoutMs = call.timeoutMs ?? 2_000;
    const outcome = call.writes ? "unknown" : "none";
    const fail = (problem: string, kind: "none" | "unknown" = outcome) =>
      reject(new UnavailableError(`${call.what}: ${problem}`, { outcome: kind }));
    const onCut = () => fail("the connection was cut");
    const onClosed = () => fail("the store was closed");
    const onAbort = () => reject(call.signal?.reason);
    const cancelDeadline = clock.after(timeoutMs, () => fail(`no answer in ${timeoutMs} ms`));
    this.#cutters.add(onCut);
    call.closed.addEventListener("abort", onClosed, { once: true });
    call.signal?.addEventListener("abort", onAbort, { once: true });

    const applyNow = () => {
      try {
        const answer = apply();
        if (this.#swallow > 0) this.#swallow -= 1;
        else if (this.#delayMs > 0) clock.after(this.#delayMs, () => resolve(answer));
        else resolve(answer);
      } catch (error) {
        reject(error);
      }
    };
    // Not in the caller's turn: a real server never answers before the caller has gone on.
    queueMicrotask(() => {
      if (this.#state === "pass") applyNow();
      else if (this.#state === "blackhole") this.#held.add(applyNow);
      else fail("the connection was refused", "none");
    });
    return promise.finally(() => {
      cancelDeadline();
      this.#cutters.delete(onCut);
      call.closed.removeEventListener("abort", onClosed);
      call.signal?.removeEventListener("abort", onAbort);
    });
  }

  #enter(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}
