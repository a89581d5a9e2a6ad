import { InvalidError } from "@cocoon-net/core";

/**
 * The Redis keys of one cluster, in the order in which every script takes them as KEYS.
 *
 * | key | type | holds |
 * |---|---|---|
 * | `P` | hash | relative key → `createRevision modRevision value`, with a session `createRevision modRevision@session value` |
 * | `{P}#index` | sorted set, all scores 0 | the keys, in byte order |
 * | `{P}#state` | hash | `era` of the database, newest `revision`, the `stamp` of the transaction that made it, `lengths` of watched prefixes; changes that are `unmarked` and `marks`: where to cut the stream |
 * | `{P}#changes` | stream | `<revision>-0`: a transaction's `stamp`, what it `put` (keys and fields as in `P` in turn) and what it did `delete` (keys), joined by bytes 255 |
 * | `{P}#sessions` | sorted set | session id → deadline, ms of the server's clock |
 * | `{P}#tied` | sorted set, all scores 0 | `session NUL key` |
 *
 * Values live in one hash, not in a string key each, so that the keys of a script are always these six: a
 * list or the reaping of a session finds its keys only while it runs, and what a script does not declare may
 * be missing on a Redis Cluster node whose slot is being moved. `P` alone and the tag `{P}` hash to one slot.
 */
export function layoutOf(prefix: string): readonly string[] {
  if (!/^[^{}\0]+$/.test(prefix) || !prefix.isWellFormed()) {
    throw new InvalidError(`store prefix "${prefix}" cannot be used in Redis`, {
      hint: "use one without braces",
    });
  }
  return [prefix, ...["index", "state", "changes", "sessions", "tied"].map((name) => `{${prefix}}#${name}`)];
}

/**
 * What the sharded channels of a cluster's watches start with; the watched prefix follows. Sharded, because in a
 * Redis Cluster such a message stays on the node that owns the keys, which also knows who listens; a plain one
 * goes to every node. Channels know no databases, so the number is part of the name.
 */
export function channelStem(prefix: string, db: number): string {
  return `{${prefix}}#watch:${db}:`;
}

/** @throws {InvalidError} for a key that the layout cannot hold. */
export function checkKey(key: string): string {
  if (key === "" || key.includes("\0") || !key.isWellFormed()) {
    throw new InvalidError(`store key ${JSON.stringify(key)} is empty or holds a NUL or half a character`);
  }
  return key;
}

/** Order of keys in the store: by their UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
