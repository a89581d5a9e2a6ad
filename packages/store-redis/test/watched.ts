import type { Change, Store, WatchBatch, WatchOptions } from "@cocoon-net/core";
import { until } from "@cocoon-net/store-testkit";

/** Follows a watch in the background and keeps what it yields. */
export class Watched implements AsyncDisposable {
  readonly batches: WatchBatch[] = [];
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #failure: unknown;

  constructor(store: Store, prefix: string, options: Omit<WatchOptions, "signal"> = {}) {
    this.#done = this.#follow(store.watch(prefix, { ...options, signal: this.#stop.signal }));
  }

  get changes(): Change[] {
    return this.batches.flatMap((batch) => (batch.type === "changes" ? batch.changes : []));
  }

  /** What a watcher believes the prefix to hold, up to a revision. */
  stateAt(revision: number = Number.POSITIVE_INFINITY): Map<string, string> {
    const state = new Map<string, string>();
    for (const batch of this.batches) {
      if (batch.revision > revision) break;
      if (batch.type === "snapshot") {
        state.clear();
        for (const entry of batch.entries) state.set(entry.key, entry.value);
        continue;
      }
      for (const change of batch.changes) {
        if (change.type === "put") state.set(change.entry.key, change.entry.value);
        else state.delete(change.key);
      }
    }
    return state;
  }

  async until(what: string, ms: number, condition: (state: Map<string, string>) => boolean): Promise<void> {
    await until(what, ms, () => this.#failure !== undefined || condition(this.stateAt()));
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #follow(watch: AsyncIterable<WatchBatch>): Promise<void> {
    try {
      for await (const batch of watch) this.batches.push(batch);
    } catch (error) {
      this.#failure = error;
    }
  }
}
