import type { Entry } from "@cocoon-net/core";
import { blocksAround, forEachEntry } from "./block.ts";
import type { Call, Connection } from "./connection.ts";
import type { Position } from "./history.ts";
import { compareKeys } from "./layout.ts";
import { list } from "./scripts/list.ts";

export interface Page {
  readonly position: Position;
  readonly entries: readonly Entry[];
  /** The key to start the next page after; undefined when this is the last. */
  readonly next: string | undefined;
}

/** The entries under a prefix after a key, in byte order, `limit` of them at most. */
export async function readPage(
  connection: Connection,
  prefix: string,
  after: string,
  limit: number,
  call: Call,
): Promise<Page> {
  const start = after !== "" && compareKeys(after, prefix) >= 0 ? after : "";
  // The one that is called like the prefix is not around it, but the first under it.
  const around =
    start === "" ? blocksAround(prefix).filter((block) => !block.startsWith(prefix)) : blocksAround(start);
  const reply = await connection.run(list, [prefix, start, limit, ...around], call);
  const [, revision, stamp, more, pieces] = reply;
  const position = { revision: Number(revision), stamp: String(stamp) };
  const entries = decodePieces(pieces as readonly Buffer[], (key, block) => {
    if (!key.startsWith(prefix)) return true;
    return start !== "" && around.includes(block) && compareKeys(key, start) <= 0;
  });
  if (entries.length <= limit)
    return { position, entries, next: more === 1 ? entries.at(-1)?.key : undefined };
  entries.length = limit;
  return { position, entries, next: entries.at(-1)?.key };
}

/** What the script answers is whole blocks: some of their keys may come before `start`, or have another prefix. */
function decodePieces(
  pieces: readonly Buffer[],
  isOutside: (key: string, block: string) => boolean,
): Entry[] {
  const entries: Entry[] = [];
  let isSorted = true;
  let last = "";
  for (const piece of pieces) {
    forEachEntry(piece, (entry, block) => {
      const { key } = entry;
      if (isOutside(key, block)) return;
      // Others between the keys of a block come after it.
      if (key < last) isSorted = false;
      last = key;
      entries.push(entry);
    });
  }
  return isSorted ? entries : entries.sort((a, b) => compareKeys(a.key, b.key));
}
