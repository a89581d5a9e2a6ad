import {
  Backoff,
  type CallOptions,
  type Entry,
  InvalidError,
  type ListOptions,
  type ListResult,
  pause,
  type Revision,
  type WatchBatch,
} from "@cocoon-net/core";
import { defaultTimeoutMs, type EtcdConnection } from "./connection.ts";
import { isHistoryGone } from "./errors.ts";
import { type KeyRange, type Keyspace, prefixEnd } from "./keyspace.ts";

/** Entries of one page of a snapshot. */
const pageSize = 10_000;
const pageTimeoutMs = 10_000;

/** All pages at one revision; from the start again when compaction overtakes it, or a database that is another one. */
export async function readSnapshot(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  options: CallOptions,
): Promise<Extract<WatchBatch, { type: "snapshot" }>> {
  const backoff = new Backoff();
  for (;;) {
    try {
      const entries: Entry[] = [];
      let revision: Revision | undefined;
      let after: string | undefined;
      do {
        const page = await readPage(connection, keyspace, prefix, {
          ...options,
          timeoutMs: pageTimeoutMs,
          limit: pageSize,
          ...(revision === undefined ? {} : { revision }),
          ...(after === undefined ? {} : { after }),
        });
        entries.push(...page.entries);
        revision = page.revision;
        after = page.next;
      } while (after !== undefined);
      return { type: "snapshot", revision, entries };
    } catch (error) {
      if (!isHistoryGone(error)) throw error;
      await pause(backoff.next(), options.signal);
    }
  }
}

/**
 * One page of a prefix. Not sorted: keys come in order, and asking for it makes etcd read all of them. And not up to the
 * end of the prefix in one request, as etcd counts all keys of a range, however few are wanted: 160 ms at 700,000.
 */
export async function readPage(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  options: ListOptions,
): Promise<ListResult> {
  const { limit = 1_000, after, signal, timeoutMs = defaultTimeoutMs } = options;
  if (!Number.isInteger(limit) || limit < 1) {
    throw new InvalidError(`list limit ${limit} is not a positive integer`);
  }
  let { revision } = options;
  if (revision !== undefined && !(revision > 0)) {
    throw new InvalidError(`revision ${revision} cannot be read`, { hint: "read at the present revision" });
  }
  const end = performance.now() + timeoutMs;
  const whole = keyspace.range(prefix, after);
  // What begins at the beginning is as a rule read whole.
  const parts = after === undefined ? [whole].values() : partsOf(whole, keyspace.range(prefix).key.length);
  const entries: Entry[] = [];
  for (let part = parts.next(0); !part.done && entries.length <= limit; ) {
    // One more than wanted tells whether there is more. Revision 0 is etcd's way to write "now".
    const request = { ...part.value, limit: limit + 1 - entries.length, revision: String(revision ?? 0) };
    const { kvs, header } = await connection.kv(
      {
        what: () => `list ${prefix}`,
        writes: false,
        send: (client, deadline) => client.kv.range(request, deadline),
      },
      { signal, timeoutMs: end - performance.now() },
    );
    revision ??= Number(header.revision);
    for (const kv of kvs) entries.push(keyspace.entry(kv));
    part = parts.next(kvs.length);
  }
  const more = entries.length > limit;
  if (more) entries.pop();
  return { entries, revision: revision ?? 0, next: more ? entries.at(-1)?.key : undefined };
}

/**
 * Cuts a range into parts that grow from its beginning: the keys that share all but the last byte with the first, then
 * all but one byte less, and so on. Each is answered with how many keys were in it.
 */
function* partsOf({ key, range_end }: KeyRange, prefixLength: number): Generator<KeyRange, void, number> {
  let [start, cut] = [key, 1];
  for (;;) {
    const stem = start.subarray(0, -cut);
    if (stem.length <= prefixLength) break;
    const end = prefixEnd(stem);
    const found = yield { key: start, range_end: end };
    start = end;
    cut = found > 0 ? 1 : cut * 2;
  }
  yield { key: start, range_end };
}
