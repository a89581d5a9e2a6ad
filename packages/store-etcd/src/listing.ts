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
import type { EtcdConnection } from "./connection.ts";
import { isHistoryGone } from "./errors.ts";
import type { Keyspace } from "./keyspace.ts";

/** Entries of one page of a snapshot. Each page makes etcd count all keys that remain: fewer are cheaper. */
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

/** One page of a prefix. Not sorted: keys come in order, and asking for it makes etcd read all of them. */
export async function readPage(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  options: ListOptions,
): Promise<ListResult> {
  const { limit = 1_000, after, revision } = options;
  if (!Number.isInteger(limit) || limit < 1) {
    throw new InvalidError(`list limit ${limit} is not a positive integer`);
  }
  if (revision !== undefined && !(revision > 0)) {
    throw new InvalidError(`revision ${revision} cannot be read`, { hint: "read at the present revision" });
  }
  const answer = await connection.kv(
    {
      what: () => `list ${prefix}`,
      writes: false,
      send: (client, deadline) =>
        client.kv.range(
          // Revision 0 is etcd's way to write "now".
          { ...keyspace.range(prefix, after), limit, revision: String(revision ?? 0) },
          deadline,
        ),
    },
    options,
  );
  const entries = answer.kvs.map((kv) => keyspace.entry(kv));
  return {
    entries,
    revision: revision ?? Number(answer.header.revision),
    next: answer.more ? entries.at(-1)?.key : undefined,
  };
}
