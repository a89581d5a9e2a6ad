import type { CallOptions, Change, Revision, WatchBatch } from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";
import type { Keyspace } from "./keyspace.ts";

const defaultEveryMs = 300_000;
/** When the second look follows one that has missed a key. */
const secondLookMs = 5_000;
const pageSize = 10_000;

/** Whether a server may lose changes of a watch around a compaction: mended in 3.4.31 and 3.5.13. */
export function losesChanges(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  if (major !== 3 || minor > 5) return false;
  return patch < (minor === 5 ? 13 : minor === 4 ? 31 : Number.POSITIVE_INFINITY);
}

/**
 * Finds the changes that a server has lost for one watcher, by comparing what it was told with what is there. It
 * keeps the key and revision of every entry that the watcher knows: only for servers that need it.
 */
export class WatchAudit {
  readonly #everyMs: number;
  readonly #known = new Map<string, Revision>();
  /** Keys that were known and not there at the last look: deleted, but the watcher may be about to hear of it. */
  #missing: ReadonlyMap<string, Revision> = new Map();

  #dueAt: number;

  /** Looks after `everyMs` to twice that, default 5 to 10 minutes. */
  constructor(everyMs: number = defaultEveryMs) {
    this.#everyMs = everyMs;
    this.#dueAt = this.#nextAt();
  }

  /** When it is time to look, by `performance.now`. */
  get dueAt(): number {
    return this.#dueAt;
  }

  /** The watcher has been told this. */
  note(batch: WatchBatch): void {
    if (batch.type === "snapshot") {
      this.#known.clear();
      this.#missing = new Map();
      for (const { key, modRevision } of batch.entries) this.#known.set(key, modRevision);
      return;
    }
    for (const change of batch.changes) {
      if (change.type === "put") this.#known.set(change.entry.key, change.entry.modRevision);
      else this.#known.delete(change.key);
    }
  }

  /** For a watcher that has all as it was at `revision`. @throws {InvalidError} when that has been compacted. */
  async begin(
    connection: EtcdConnection,
    keyspace: Keyspace,
    prefix: string,
    revision: Revision,
    options: CallOptions,
  ): Promise<void> {
    this.#known.clear();
    if (revision < 1) return;
    for await (const [key, modRevision] of listRevisions(connection, keyspace, prefix, revision, options)) {
      this.#known.set(key, modRevision);
    }
  }

  /**
   * The changes up to `reached` that the watcher should have been told and was not. What is newer, the stream will
   * tell. That a key is gone without a word is believed at the second look.
   */
  async differences(
    connection: EtcdConnection,
    keyspace: Keyspace,
    prefix: string,
    reached: Revision,
    options: CallOptions,
  ): Promise<Change[]> {
    // Also when this look fails: a watcher is not held up by it for long.
    this.#dueAt = this.#nextAt();
    const gone = new Map(this.#known);
    const stale: string[] = [];
    for await (const [key, modRevision] of listRevisions(connection, keyspace, prefix, undefined, options)) {
      if (modRevision <= reached && this.#known.get(key) !== modRevision) stale.push(key);
      gone.delete(key);
    }
    const changes: Change[] = [];
    for (const key of stale) {
      const { kvs } = await connection.kv(
        {
          what: () => `get ${key}`,
          writes: false,
          send: (client, limit) => client.kv.range({ key: keyspace.full(key) }, limit),
        },
        options,
      );
      const entry = kvs[0] && keyspace.entry(kvs[0]);
      if (entry && entry.modRevision <= reached) changes.push({ type: "put", entry });
    }
    for (const [key, modRevision] of gone) {
      if (this.#missing.get(key) !== modRevision) continue;
      changes.push({ type: "delete", key, revision: reached });
      gone.delete(key);
    }
    this.#missing = gone;
    this.#dueAt = this.#nextAt();
    return changes.toSorted((a, b) => revisionOf(a) - revisionOf(b));
  }

  #nextAt(): number {
    const rarely = this.#everyMs * (1 + Math.random());
    return performance.now() + (this.#missing.size > 0 ? Math.min(secondLookMs, rarely) : rarely);
  }
}

/** Keys and their modRevisions, without their values. */
async function* listRevisions(
  connection: EtcdConnection,
  keyspace: Keyspace,
  prefix: string,
  pinned: Revision | undefined,
  options: CallOptions,
): AsyncGenerator<readonly [key: string, modRevision: Revision], void, void> {
  let revision = pinned;
  for (let after: string | undefined, more = true; more; ) {
    const answer = await connection.kv(
      {
        what: () => `list the keys of ${prefix}`,
        writes: false,
        send: (client, limit) =>
          client.kv.range(
            {
              ...keyspace.range(prefix, after),
              limit: pageSize,
              keys_only: true,
              revision: String(revision ?? 0),
            },
            limit,
          ),
      },
      options,
    );
    revision ??= Number(answer.header.revision);
    for (const kv of answer.kvs) yield [keyspace.relative(kv.key), Number(kv.mod_revision)];
    const last = answer.kvs.at(-1);
    more = answer.more && last !== undefined;
    after = last && keyspace.relative(last.key);
  }
}

function revisionOf(change: Change): Revision {
  return change.type === "put" ? change.entry.modRevision : change.revision;
}
