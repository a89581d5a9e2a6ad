import { CorruptError, type Entry } from "@cocoon-net/core";
import { splitBlocks, splitTexts } from "./text-array.ts";

/**
 * Keys that end in the last octet of an address stand together in blocks of 32 neighbours in byte order, so that
 * revisions and index of a node's leases are written by the block and not by the lease. A block is called after the
 * first key that it can hold, with a NUL behind: no key is, and it sorts behind that key and before the next.
 * Any other key is a block of its own, called like it. `keysOf` in scripts/prelude.ts knows the same.
 */
export interface Place {
  readonly block: string;
  /** The key's bit in the block's masks, which are signed 32-bit numbers. */
  readonly bit: number;
}

/** Most keys of a block: as many as a mask has bits. */
export const blockSize = 32;
const octets = Array.from({ length: 256 }, (_, octet) => String(octet)).sort();
/** By octet: its place in byte order. */
const ranks = new Uint8Array(256);
for (const [rank, octet] of octets.entries()) ranks[Number(octet)] = rank;
/** By the number of a block among those of one stem: how its name ends. */
const ends = Array.from({ length: octets.length / blockSize }, (_, at) => `${octets[at * blockSize]}\0`);

export function placeOf(key: string): Place {
  return new Placing().place(key);
}

/** Places of keys one after another: neighbours often share a stem. */
export class Placing {
  #stem = "";
  /** Of that stem, by number. */
  #blocks: string[] = [];

  place(key: string): Place {
    const end = key.lastIndexOf(".") + 1;
    const octet = end === 0 ? undefined : octetAt(key, end);
    if (octet === undefined) return { block: key, bit: 1 };
    if (end !== this.#stem.length || !key.startsWith(this.#stem)) {
      this.#stem = key.slice(0, end);
      this.#blocks = [];
    }
    const rank = ranks[octet] ?? 0;
    const at = Math.floor(rank / blockSize);
    this.#blocks[at] ??= `${this.#stem}${ends[at]}`;
    return { block: this.#blocks[at], bit: 1 << (rank % blockSize) };
  }
}

/** The octet that a key ends in, if that is all there is from `start` on, without zeros in front. */
function octetAt(key: string, start: number): number | undefined {
  const digits = key.length - start;
  if (digits < 1 || digits > 3 || (digits > 1 && key[start] === "0")) return undefined;
  let octet = 0;
  for (let at = start; at < key.length; at++) {
    const digit = key.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return undefined;
    octet = octet * 10 + digit;
  }
  return octet < 256 ? octet : undefined;
}

/**
 * The blocks that may hold keys beyond `key` although their names are not beyond its own block's: one of each stem that
 * `key` starts with.
 */
export function blocksAround(key: string): string[] {
  const blocks: string[] = [];
  for (let dot = key.indexOf("."); dot >= 0; dot = key.indexOf(".", dot + 1)) {
    const rest = key.slice(dot + 1);
    let rank = octets.length - blockSize;
    while (rank >= 0 && (octets[rank] ?? "") > rest) rank -= blockSize;
    if (rank >= 0) blocks.push(`${key.slice(0, dot + 1)}${ends[rank / blockSize]}`);
  }
  return blocks;
}

/** One row of a block: when these of its keys were made and last written. */
export interface Row {
  readonly created: number;
  readonly modified: number;
  readonly mask: number;
}

export function rowsOf(text: string): Row[] {
  return text.split(",").map((row) => {
    const [created, modified, mask] = row.split(" ", 3);
    return { created: Number(created), modified: Number(modified), mask: Number(mask) };
  });
}

/** Calls back with each key that the rows of a block have, in byte order. */
export function forEachKey(block: string, rows: readonly Row[], take: (key: string, row: Row) => void): void {
  const [only] = rows;
  if (!block.endsWith("\0")) {
    if (only) take(block, only);
    return;
  }
  const end = block.lastIndexOf(".") + 1;
  const stem = block.slice(0, end);
  const first = ranks[Number(block.slice(end, -1))] ?? 0;
  for (let at = 0; at < blockSize; at++) {
    const row = rows.length === 1 ? only : rows.find(({ mask }) => mask & (1 << at));
    if (row && row.mask & (1 << at)) take(stem + octets[first + at], row);
  }
}

/**
 * Calls back with each entry of blocks: of each its name, its rows, and its values, joined, and a byte 254 behind.
 * @throws {CorruptError} when a block has not as many values as keys
 */
export function forEachEntry(blocks: Buffer, take: (entry: Entry, block: string) => void): void {
  for (const [block = "", rows = "", ...values] of splitBlocks(blocks)) {
    let at = 0;
    forEachKey(block, rowsOf(rows), (key, { created, modified }) => {
      take({ key, value: values[at] ?? "", createRevision: created, modRevision: modified }, block);
      at += 1;
    });
    if (at !== values.length) throw changedByHand(block);
  }
}

function changedByHand(block: string): CorruptError {
  return new CorruptError(`the values in the field ${JSON.stringify(block)} are not those of its keys`, {
    hint: "it was changed by hand: write it as it was, or remove it, and its keys are absent until they are put again",
  });
}

/** Calls back with the keys of blocks, which are joined: name and keys (bits) of each in turn. */
export function forEachKeyIn(joined: Buffer, take: (key: string) => void): void {
  const texts = splitTexts(joined);
  for (let at = 0; at < texts.length; at += 2) {
    forEachKey(texts[at] ?? "", [{ created: 0, modified: 0, mask: Number(texts[at + 1]) }], take);
  }
}
