import type { Journal } from "./journal.ts";
import type { EngineState, Lease } from "./lease.ts";

export interface LoadOptions {
  readonly journalPath: string;
  readonly leasesFilePath: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface LoadedLeases {
  readonly journal: Journal;
  readonly state: EngineState;
  /** Leases taken over from `leases.json`. */
  readonly adopted: readonly Lease[];
  /** Bytes of a torn last write that were cut off the journal. */
  readonly cutBytes: number;
  /** Entries of `leases.json` that did not parse or have expired. */
  readonly skipped: number;
}

export function loadLeases(_options: LoadOptions): Promise<LoadedLeases> {
  return Promise.reject(new Error("not built yet"));
}
