import {
  Backoff,
  type Revision,
  UnavailableError,
  type WatchBatch,
  type WatchOptions,
} from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";
import { isHistoryGone } from "./errors.ts";
import type { Keyspace } from "./keyspace.ts";
import { readSnapshot } from "./listing.ts";
import type { WatchAudit } from "./watch-audit.ts";
import { followChanges, HistoryGoneError } from "./watch-stream.ts";

/** A stream that held this long was sound: the next loss starts with a short pause again. */
const soundMs = 5_000;
/** Deadline of one page of an audit. */
const lookTimeoutMs = 10_000;

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

export interface PrefixWatch {
  readonly connection: EtcdConnection;
  readonly keyspace: Keyspace;
  readonly prefix: string;
  readonly fromRevision: WatchOptions["fromRevision"];
  readonly ended: AbortSignal;
  /** Given for a server that may lose changes. */
  readonly audit: WatchAudit | undefined;
}

/** {@link Store.watch} for one prefix. Ends without an error when `ended` aborts. */
export async function* watchPrefix(watch: PrefixWatch): AsyncGenerator<WatchBatch, void, void> {
  const { connection, keyspace, prefix, fromRevision, ended, audit } = watch;
  const range = keyspace.range(prefix);
  const options = { signal: ended, timeoutMs: lookTimeoutMs };
  const backoff = new Backoff({ firstMs: 100, maxMs: 500 });
  let position: Position | undefined =
    fromRevision === undefined ? undefined : { revision: fromRevision, incarnation: connection.incarnation };
  let audited = false;
  while (!ended.aborted) {
    const startedAt = performance.now();
    try {
      // Also logs in anew where the token has expired, which a watch stream alone would not.
      const revision = await connection.probe(range, { signal: ended });
      const { incarnation } = connection;
      const sameHistory = position?.incarnation === incarnation && position.revision <= revision;
      if (position === undefined || !sameHistory) {
        const snapshot = await readSnapshot(connection, keyspace, prefix, { signal: ended });
        if (connection.incarnation !== incarnation) continue;
        position = { revision: snapshot.revision, incarnation };
        audit?.note(snapshot);
        audited = true;
        yield snapshot;
      } else if (audit && !audited) {
        await audit.begin(connection, keyspace, prefix, position.revision, options);
        audited = true;
      } else if (audit && performance.now() >= audit.dueAt) {
        const changes = await audit.differences(connection, keyspace, prefix, position.revision, options);
        if (changes.length > 0) {
          const batch: WatchBatch = { type: "changes", revision: position.revision, changes };
          audit.note(batch);
          yield batch;
        }
      }
      // For an audit the stream is let go, so that it compares with all that was told up to one revision.
      const until = audit?.dueAt ?? Number.POSITIVE_INFINITY;
      const follow = followChanges(connection, keyspace, range, position.revision, ended, until);
      for await (const { revision: reached, changes } of follow) {
        if (changes.length > 0) {
          const batch: WatchBatch = { type: "changes", revision: reached, changes };
          audit?.note(batch);
          yield batch;
        }
        position.revision = reached;
      }
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof HistoryGoneError || isHistoryGone(error)) position = undefined;
      else if (!(error instanceof UnavailableError)) throw error;
    }
    if (performance.now() - startedAt > soundMs) backoff.reset();
    await backoff.wait(ended).catch(() => {});
  }
}
