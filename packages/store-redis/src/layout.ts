import { InvalidError } from "@cocoon-net/core";

/**
 * The Redis keys of one cluster, in the order in which every script takes them as KEYS.
 *
 * | key | type | holds |
 * |---|---|---|
 * | `P` | hash | block (block.ts) → the values of its keys, in their order, joined by bytes 255 |
 * | `{P}#blocks` | hash | block → its rows `createRevision modRevision keys[ session]`, with commas: which of its keys (bits) were made and last written when, and what session they hang on |
 * | `{P}#index` | sorted set, all scores 0 | the blocks, in byte order |
 * | `{P}#state` | hash | `layout` of all this, `era` of the database, newest `revision`, the `stamp` of the transaction that made it, `lengths` of watched prefixes; changes that are `unmarked` and `marks`: where to cut the stream |
 * | `{P}#changes` | stream | `<revision>-0`: a transaction's `stamp`; what it did `delete`, blocks and keys of them (bits) in turn, joined by bytes 255; then for each block of which it has put keys: the block, a byte 255 and their rows → their values |
 * | `{P}#sessions` | sorted set | session id → deadline, ms of the server's clock |
 * | `{P}#tied` | sorted set, all scores 0 | `session NUL block` |
 *
 * Values live in one hash, not in a string key each, so that the keys of a script are always these seven: a
 * list or the reaping of a session finds its keys only while it runs, and what a script does not declare may
 * be missing on a Redis Cluster node whose slot is being moved. `P` alone and the tag `{P}` hash to one slot.
 */
export function layoutOf(prefix: string): readonly string[] {
  if (!/^[^{}\0]+$/.test(prefix) || !prefix.isWellFormed()) {
    throw new InvalidError(`store prefix "${prefix}" cannot be used in Redis`, {
      hint: "use one without braces",
    });
  }
  const names = ["blocks", "index", "state", "changes", "sessions", "tied"];
  return [prefix, ...names.map((name) => `{${prefix}}#${name}`)];
}

/** Types of these keys, where they exist. */
export const keyTypes: readonly string[] = ["hash", "hash", "zset", "hash", "stream", "zset", "zset"];

/** What `layout` says. 2 had each key's value in a field of its own; what was before it has no such word. */
export const layoutVersion = "3";

/**
 * What the sharded channels of a cluster's watches start with; the watched prefix follows. Sharded, because in a
 * Redis Cluster such a message stays on the node that owns the keys, which also knows who listens; a plain one
 * goes to every node. Channels know no databases, so the number is part of the name.
 */
export function channelStem(prefix: string, db: number): string {
  return `{${prefix}}#watch:${db}:`;
}

/** Order of keys in the store: by their UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
