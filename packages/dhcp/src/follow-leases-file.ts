import type { FileLease } from "./leases-file.ts";

export interface LeasesSnapshot {
  readonly leases: readonly FileLease[];
  /** False when an entry did not parse: what is missing from `leases` may still be there (G8). */
  readonly complete: boolean;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** How often the file's mtime and size are looked at besides watching it. Default 2 s. */
  readonly pollMs?: number;
  /** Told when the file is missing, unreadable or half written, once per change of that. */
  readonly onProblem?: (problem: string) => void;
}

/** Yields the whole file at start and whenever it changed. A missing or broken file yields nothing (G8). */
export async function* followLeasesFile(
  _path: string,
  _options: FollowOptions,
): AsyncGenerator<LeasesSnapshot> {}
