import {
  Backoff,
  type CallOptions,
  type Entry,
  pause,
  type Revision,
  UnavailableError,
  type WatchBatch,
  type WatchOptions,
} from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";
import { isCompacted } from "./errors.ts";
import type { Keyspace } from "./keyspace.ts";
import { followChanges, HistoryGoneError } from "./watch-stream.ts";

/** Entries of one page of a snapshot. Each page makes etcd count all keys that remain: fewer are cheaper. */
const pageSize = 5_000;
const pageTimeoutMs = 10_000;
/** A stream that held this long was sound: the next loss starts with a short pause again. */
const soundMs = 5_000;

/**
 * What the watcher has been given: all changes up to `revision` of that history.
 *
 * Invariants: it moves only after a batch was taken, so a lost stream loses nothing; and only by whole
 * revisions, so that nothing comes twice.
 */
interface Position {
  revision: Revision;
  readonly incarnation: string;
}

/** {@link Store.watch} for one prefix. Ends without an error when `ended` aborts. */
export async function* watchPrefix(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  fromRevision: WatchOptions["fromRevision"],
  ended: AbortSignal,
): AsyncGenerator<WatchBatch, void, void> {
  const range = keyspace.range(prefix);
  const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
  let position: Position | undefined =
    fromRevision === undefined ? undefined : { revision: fromRevision, incarnation: connection.incarnation };
  while (!ended.aborted) {
    const startedAt = performance.now();
    try {
      // Also logs in anew where the token has expired, which a watch stream alone would not.
      const revision = await connection.probe(range, { signal: ended });
      const sameHistory = position?.incarnation === connection.incarnation && position.revision <= revision;
      if (position === undefined || !sameHistory) {
        const snapshot = await readSnapshot(connection, keyspace, prefix, { signal: ended });
        position = { revision: snapshot.revision, incarnation: connection.incarnation };
        yield snapshot;
      }
      const follow = followChanges(connection, keyspace, range, position.revision, ended);
      for await (const { revision: reached, changes } of follow) {
        if (changes.length > 0) yield { type: "changes", revision: reached, changes };
        position.revision = reached;
      }
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof HistoryGoneError) position = undefined;
      else if (!(error instanceof UnavailableError)) throw error;
    }
    if (performance.now() - startedAt > soundMs) backoff.reset();
    await backoff.wait(ended).catch(() => {});
  }
}

/** All pages at one revision; from the start again when compaction overtakes it. */
async function readSnapshot(
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
        const page = await readPage(connection, keyspace, prefix, after, pageSize, revision, {
          ...options,
          timeoutMs: pageTimeoutMs,
        });
        entries.push(...page.entries);
        revision = page.revision;
        after = page.next;
      } while (after !== undefined);
      return { type: "snapshot", revision, entries };
    } catch (error) {
      if (!isCompacted(error)) throw error;
      await pause(backoff.next(), options.signal);
    }
  }
}

/** One page of a prefix. Not sorted: keys come in order, and asking for it makes etcd read all of them. */
export async function readPage(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  after: string | undefined,
  limit: number,
  revision: Revision | undefined,
  options: CallOptions,
): Promise<{ entries: Entry[]; revision: Revision; next: string | undefined }> {
  const answer = await connection.kv(
    {
      what: `list ${prefix}`,
      writes: false,
      send: (client, deadline) =>
        client.kv.range(
          {
            ...keyspace.range(prefix, after),
            limit,
            ...(revision === undefined ? {} : { revision: String(revision) }),
          },
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
