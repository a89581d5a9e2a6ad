import {
  Backoff,
  type Change,
  CocoonError,
  type Entry,
  type Revision,
  type WatchBatch,
  type WatchOptions,
} from "@cocoon-net/core";
import type { Connection } from "./connection.ts";
import { compareKeys } from "./layout.ts";
import type { Pulse } from "./pulse.ts";
import { decodeEntry, type EntryReply } from "./request.ts";
import { changes as changesScript } from "./scripts/changes.ts";
import { list as listScript } from "./scripts/list.ts";
import { status } from "./scripts/prelude.ts";

/** A place in one history: the stamp tells it from another history that got to the same number. */
interface Position {
  readonly revision: Revision;
  /** Empty when unknown. */
  readonly stamp: string;
}

type ChangeReply = readonly [revision: string, op: string, key: string, value: string, created: string];

/** What one look brings: the changes after a position, or undefined when they are not all there. */
interface News {
  readonly position: Position;
  readonly more: boolean;
  readonly batches: readonly { readonly revision: Revision; readonly changes: readonly Change[] }[];
}

/** Most entries of one page of a snapshot. */
const pageSize = 5_000;

/**
 * `Store.watch`. It pulls: it reads on only when its consumer asks for the next batch, so a slow consumer costs
 * no memory here; if it falls behind the history that is kept, it gets a snapshot. Ends when `ended` aborts.
 */
export async function* watch(
  connection: Connection,
  pulse: Pulse,
  prefix: string,
  fromRevision: WatchOptions["fromRevision"],
  ended: AbortSignal,
): AsyncGenerator<WatchBatch, void, undefined> {
  if (ended.aborted) return;
  const reader = new HistoryReader(connection, prefix, ended);
  const backoff = new Backoff({ maxMs: 2_000 });
  using wake = pulse.subscribe(prefix);
  let position: Position | undefined =
    fromRevision === undefined ? undefined : { revision: fromRevision, stamp: "" };
  while (!ended.aborted) {
    try {
      const news: News | undefined = position && (await reader.after(position));
      if (news === undefined) {
        const snapshot = await reader.snapshot();
        // Undefined again: history was cut while reading it. The growing pause lets a storm of writes pass.
        if (snapshot === undefined) {
          await backoff.wait(ended);
          continue;
        }
        position = snapshot.position;
        yield { type: "snapshot", revision: position.revision, entries: snapshot.entries };
        continue;
      }
      for (const batch of news.batches) {
        if (ended.aborted) return;
        yield { type: "changes", ...batch };
      }
      position = news.position;
      backoff.reset();
      if (!news.more) await wake.rung(ended);
    } catch (error) {
      if (ended.aborted) return;
      if (!(error instanceof CocoonError && error.retryable)) throw error;
      await backoff.wait(ended).catch(() => {});
    }
  }
}

class HistoryReader {
  readonly #connection: Connection;
  readonly #prefix: string;
  readonly #call: { readonly what: string; writes: false; timeoutMs: number; signal: AbortSignal };

  constructor(connection: Connection, prefix: string, signal: AbortSignal) {
    this.#connection = connection;
    this.#prefix = prefix;
    this.#call = { what: `watch ${prefix}`, writes: false, timeoutMs: 5_000, signal };
  }

  async after(since: Position): Promise<News | undefined> {
    const args = [this.#prefix, since.revision, since.stamp];
    const reply = await this.#connection.run(changesScript, args, this.#call);
    if (reply[0] === status.gone) return undefined;
    const [, revision, stamp, more, found] = reply;
    const batches: { revision: Revision; changes: Change[] }[] = [];
    for (const change of found as readonly ChangeReply[]) {
      const at = Number(change[0]);
      if (batches.at(-1)?.revision !== at) batches.push({ revision: at, changes: [] });
      batches.at(-1)?.changes.push(decodeChange(change));
    }
    return { position: { revision: Number(revision), stamp: String(stamp) }, more: more === 1, batches };
  }

  /**
   * All entries at one revision. Pages are read one after another, each true at its own time; then what changed
   * since the first page is applied on top. Whatever a page showed too early or too late, that sets right, and
   * the whole is what the prefix held at the revision where it stops.
   */
  async snapshot(): Promise<{ position: Position; entries: Entry[] } | undefined> {
    const found = new Map<string, Entry>();
    let first: Position | undefined;
    let last: Revision = 0;
    let after: string | undefined = "";
    while (after !== undefined) {
      const reply = await this.#connection.run(listScript, [this.#prefix, after, pageSize], this.#call);
      const [, revision, stamp, more, entries] = reply;
      for (const entry of (entries as readonly EntryReply[]).map(decodeEntry)) found.set(entry.key, entry);
      first ??= { revision: Number(revision), stamp: String(stamp) };
      last = Number(revision);
      after = more === 1 ? (entries as readonly EntryReply[]).at(-1)?.[0] : undefined;
    }
    let position = first ?? { revision: 0, stamp: "" };
    if (position.revision === last) return { position, entries: [...found.values()] };
    while (position.revision < last) {
      const news = await this.after(position);
      if (news === undefined) return undefined;
      for (const change of news.batches.flatMap((batch) => batch.changes)) {
        if (change.type === "put") found.set(change.entry.key, change.entry);
        else found.delete(change.key);
      }
      position = news.position;
    }
    return { position, entries: [...found.values()].toSorted((a, b) => compareKeys(a.key, b.key)) };
  }
}

function decodeChange([revision, op, key, value, created]: ChangeReply): Change {
  return op === "put"
    ? { type: "put", entry: decodeEntry([key, value, created, revision]) }
    : { type: "delete", key, revision: Number(revision) };
}
