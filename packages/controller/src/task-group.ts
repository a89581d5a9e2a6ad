/**
 * Tasks that live and end together: when one fails, or the outer signal aborts, all are told to stop, and
 * {@link TaskGroup.join} returns once every one has.
 */
export class TaskGroup {
  readonly #stop = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly signal: AbortSignal;
  #failure: { readonly error: unknown } | undefined;

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.#stop.signal]);
  }

  spawn(run: (signal: AbortSignal) => Promise<void>): void {
    const task = (async () => {
      try {
        await run(this.signal);
      } catch (error) {
        if (this.signal.aborted) return;
        this.#failure = { error };
        this.#stop.abort(error);
      }
    })();
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
  }

  /** Waits until the group has been stopped and every task has ended. @throws what the first failed one threw. */
  async join(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    if (this.#failure) throw this.#failure.error;
  }
}
