import {
  Backoff,
  type Revision,
  UnavailableError,
  type WatchBatch,
  type WatchOptions,
} from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";
import type { Keyspace } from "./keyspace.ts";
import { readSnapshot } from "./listing.ts";
import { followChanges, HistoryGoneError } from "./watch-stream.ts";

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
      const { incarnation } = connection;
      const sameHistory = position?.incarnation === incarnation && position.revision <= revision;
      if (position === undefined || !sameHistory) {
        const snapshot = await readSnapshot(connection, keyspace, prefix, { signal: ended });
        if (connection.incarnation !== incarnation) continue;
        position = { revision: snapshot.revision, incarnation };
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
