import type { Change, Entry, Revision } from "@cocoon-net/core";
import { forEachEntry, forEachKeyIn } from "./block.ts";
import type { Call, Connection } from "./connection.ts";
import { compareKeys } from "./layout.ts";
import { readPage } from "./page.ts";
import { changes as changesScript } from "./scripts/changes.ts";
import { status } from "./scripts/prelude.ts";

/** A place in one history: the stamp tells it from another history that got to the same number. */
export interface Position {
  readonly revision: Revision;
  /** Empty when unknown. */
  readonly stamp: string;
}

export interface Range {
  readonly start: Position;
  /** Whether what happened at `start` is told too. */
  readonly inclusive: boolean;
  /** The last revision to tell of; undefined for the newest. */
  readonly upTo: Revision | undefined;
}

/** What one look brings. */
export interface News {
  /** How far it goes. */
  readonly position: Position;
  /** There is more up to the end of the range. */
  readonly more: boolean;
  readonly batches: readonly { readonly revision: Revision; readonly changes: readonly Change[] }[];
}

/** A transaction as the `changes` script answers it. */
type ChangesReply = readonly [revision: Buffer, put: Buffer, deleted: Buffer];

/** Most entries of one page of a snapshot. */
const pageSize = 5_000;

/** What changed under a prefix in a range, or undefined when that history is not all there, or is another one. */
export async function readChanges(
  connection: Connection,
  prefix: string,
  range: Range,
  call: Call,
): Promise<News | undefined> {
  const { start, inclusive, upTo } = range;
  const args = [prefix, start.revision, start.stamp, inclusive ? 1 : 0, upTo ?? ""];
  const reply = await connection.run(changesScript, args, call);
  if (reply[0] === status.gone) return undefined;
  const [, revision, stamp, more, found] = reply;
  const batches = (found as readonly ChangesReply[])
    .map((change) => decodeChanges(change, prefix))
    .filter(({ changes }) => changes.length > 0);
  return { position: { revision: Number(revision), stamp: String(stamp) }, more: more === 1, batches };
}

export interface Snapshot {
  readonly position: Position;
  readonly entries: readonly Entry[];
}

/**
 * All entries at one revision, or undefined when history was cut meanwhile. Pages are read one after another, each
 * true at its own time; then what changed since the first page is applied on top. Whatever a page showed too early
 * or too late, that sets right, and the whole is what the prefix held at the revision where it stops.
 */
export async function readSnapshot(
  connection: Connection,
  prefix: string,
  call: Call,
): Promise<Snapshot | undefined> {
  const found = new Map<string, Entry>();
  let first: Position | undefined;
  let last: Revision = 0;
  let after: string | undefined = "";
  while (after !== undefined) {
    const page = await readPage(connection, prefix, after, pageSize, call);
    for (const entry of page.entries) found.set(entry.key, entry);
    first ??= page.position;
    last = page.position.revision;
    after = page.next;
  }
  let position = first ?? { revision: 0, stamp: "" };
  if (position.revision === last) return { position, entries: [...found.values()] };
  while (position.revision < last) {
    const range = { start: position, inclusive: false, upTo: last };
    const news = await readChanges(connection, prefix, range, call);
    if (news === undefined) return undefined;
    for (const change of news.batches.flatMap((batch) => batch.changes)) {
      if (change.type === "put") found.set(change.entry.key, change.entry);
      else found.delete(change.key);
    }
    position = news.position;
  }
  return { position, entries: [...found.values()].toSorted((a, b) => compareKeys(a.key, b.key)) };
}

/** The blocks may have other keys too. */
function decodeChanges([at, put, deleted]: ChangesReply, prefix: string): News["batches"][number] {
  const revision = Number(at);
  const changes: Change[] = [];
  forEachEntry(put, (entry) => {
    if (entry.key.startsWith(prefix)) changes.push({ type: "put", entry });
  });
  forEachKeyIn(deleted, (key) => {
    if (key.startsWith(prefix)) changes.push({ type: "delete", key, revision });
  });
  return { revision, changes };
}
