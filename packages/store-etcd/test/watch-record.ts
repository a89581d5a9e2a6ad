import type { Store, WatchBatch, WatchOptions } from "@cocoon-net/core";
import { until } from "@cocoon-net/store-testkit";

/** Follows a watch and keeps its batches. Rejects in {@link until} with what the watch has thrown. */
export class WatchRecord implements AsyncDisposable {
  readonly batches: WatchBatch[] = [];
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #failure: { error: unknown } | undefined;

  constructor(store: Store, prefix: string, options: WatchOptions = {}) {
    this.#done = this.#follow(store.watch(prefix, { ...options, signal: this.#stop.signal }));
  }

  /** `key=value` and `-key`, snapshots left out. */
  get changes(): string[] {
    return this.batches.flatMap((batch) =>
      batch.type === "snapshot"
        ? []
        : batch.changes.map((change) =>
            change.type === "put" ? `${change.entry.key}=${change.entry.value}` : `-${change.key}`,
          ),
    );
  }

  get snapshots(): number {
    return this.batches.filter((batch) => batch.type === "snapshot").length;
  }

  async until(what: string, ms: number, condition: (record: this) => boolean): Promise<void> {
    await until(what, ms, () => this.#failure !== undefined || condition(this));
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #follow(watch: AsyncIterable<WatchBatch>): Promise<void> {
    try {
      for await (const batch of watch) this.batches.push(batch);
    } catch (error) {
      this.#failure = { error };
    }
  }
}
