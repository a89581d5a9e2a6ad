import type { Target } from "../target.ts";

/** What a write is made to depend on: the key of {@link RawClient.claim} as it stood then. */
export interface RawFence {
  readonly key: string;
  /** etcd: the modification revision. Redis: the value. */
  readonly token: string;
}

export type RawEntry = readonly [key: string, value: string];

/**
 * The vendor's client used by hand, as sparingly as it can be for the same work: what this project's figures stand
 * beside. It keeps the same keys and values, and none of the promises beyond that (lost answers, deadlines, on
 * Redis revisions and a change feed).
 */
export interface RawClient extends AsyncDisposable {
  /** Puts a key that later writes are fenced by. */
  claim(key: string, value: string): Promise<RawFence>;
  /** All entries, atomically, if the fence holds. */
  write(fence: RawFence, entries: readonly RawEntry[]): Promise<void>;
  /** Every entry under a prefix that ends in `/`, by pages of about 10,000. */
  readAll(prefix: string, take: (key: string, value: string) => void): Promise<void>;
  /** Marks slots 0…taken-1 as owned. */
  occupySlots(taken: number): Promise<void>;
  /** Takes a free slot of `slots` for a node; answers its number and how many claims it took. */
  register(
    node: string,
    slots: number,
    records: readonly RawEntry[],
  ): Promise<{ slot: number; tries: number }>;
  /** Keeps a key alive by a heartbeat each third of `ttlMs`. */
  heartbeat(key: string, ttlMs: number): Promise<void>;
  /** Writes one key, alone. */
  put(key: string, value: string): Promise<void>;
  /** Calls `take` for each later {@link put} of that key. */
  follow(key: string, take: () => void): Promise<void>;
}

export async function openRawClient(target: Target): Promise<RawClient> {
  if (target.kind === "etcd") return (await import("./etcd.ts")).openRawEtcd(target);
  return (await import("./redis.ts")).openRawRedis(target);
}
