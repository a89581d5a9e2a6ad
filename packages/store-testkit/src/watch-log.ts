import type { Change, Entry, Store, WatchBatch, WatchOptions } from "@cocoon-net/core";
import { until, within } from "./waiting.ts";

/** Follows a watch in the background and keeps all that it yields, for checks to look at. */
export class WatchLog implements AsyncDisposable {
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

  /** What a watcher would believe the prefix to hold. */
  get state(): Map<string, string> {
    const state = new Map<string, string>();
    for (const batch of this.batches) {
      if (batch.type === "snapshot") {
        state.clear();
        for (const entry of batch.entries) state.set(entry.key, entry.value);
      } else {
        for (const change of batch.changes) {
          if (change.type === "put") state.set(change.entry.key, change.entry.value);
          else state.delete(change.key);
        }
      }
    }
    return state;
  }

  /** Waits until `condition` holds; rejects after `ms`, or when the watch has thrown. */
  async until(what: string, ms: number, condition: (log: this) => boolean): Promise<void> {
    await until(what, ms, () => this.#failure !== undefined || condition(this));
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when the watch has ended by itself. */
  async ended(ms: number): Promise<void> {
    await within("the end of the watch", ms, this.#done);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.ended(15_000);
  }

  async #follow(watch: AsyncIterable<WatchBatch>): Promise<void> {
    try {
      for await (const batch of watch) this.batches.push(batch);
    } catch (error) {
      this.#failure = error;
    }
  }
}

/** The revision of the write that the change tells of. */
export function revisionOf(change: Change): number {
  return change.type === "put" ? change.entry.modRevision : change.revision;
}

/** `key=value` or `-key`: changes in a form that reads well when a check fails. */
export function summary(changes: readonly Change[]): string[] {
  return changes.map((change) =>
    change.type === "put" ? `${change.entry.key}=${change.entry.value}` : `-${change.key}`,
  );
}

export function pairs(entries: readonly Entry[]): string[] {
  return entries.map((entry) => `${entry.key}=${entry.value}`);
}
