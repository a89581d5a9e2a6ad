import type { AddressRecord, EngineState } from "./lease.ts";

export interface JournalOptions {
  /** Compact when the file is larger than this and than twice its last compacted size. Default 1 MiB. */
  readonly compactBytes?: number;
}

export interface OpenedJournal {
  readonly journal: Journal;
  readonly state: EngineState;
  /** Bytes of a torn last write that were cut off. */
  readonly cutBytes: number;
}

export interface JournalStats {
  readonly records: number;
  readonly syncs: number;
  readonly compactions: number;
  readonly bytes: number;
  /** Why the last append failed; undefined when it did not. */
  readonly failing: string | undefined;
}

export class Journal implements AsyncDisposable {
  static open(_path: string, _options?: JournalOptions): Promise<OpenedJournal> {
    return Promise.reject(new Error("not built yet"));
  }
  /** Where compaction takes the current state from. Without it the file only grows. */
  compactFrom(_source: { readonly seq: number; records(): Iterable<AddressRecord> }): void {}
  /** Resolves once the records are durable; all appends that wait share one write and one fdatasync. */
  append(_records: readonly AddressRecord[]): Promise<void> {
    return Promise.resolve();
  }
  get stats(): JournalStats {
    throw new Error("not built yet");
  }
  async [Symbol.asyncDispose](): Promise<void> {}
}
