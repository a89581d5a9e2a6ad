import { type Address, parseAddress } from "@cocoon-net/core";
import type { Lease } from "./lease.ts";

/** One entry of `leases.json`. */
export type FileLease = Pick<Lease, "mac" | "ip" | "expiry">;

/** The addresses that share all but their last byte. */
interface Block {
  readonly number: number;
  /** By last byte. */
  readonly lines: (string | undefined)[];
  used: number;
  /** The lines joined; undefined after a change. */
  bytes: Buffer | undefined;
}

const BLOCK = 256;

/**
 * The content of `leases.json`: an array sorted by address, one entry a line, so that equal leases make equal bytes. What
 * did not change is not written out again: with 64,000 leases a whole new text costs a hundred times a change.
 */
export class LeasesText {
  readonly #blocks = new Map<number, Block>();
  #sorted: Block[] = [];
  #times: { readonly expiry: number; readonly text: string } = { expiry: Number.NaN, text: "" };

  /** Sets or removes the entry of an address. @returns whether the text changed */
  set(address: Address, lease: FileLease | undefined): boolean {
    const number = Math.floor(address / BLOCK);
    let block = this.#blocks.get(number);
    if (block === undefined) {
      if (lease === undefined) return false;
      block = {
        number,
        lines: new Array<string | undefined>(BLOCK).fill(undefined),
        used: 0,
        bytes: undefined,
      };
      this.#blocks.set(number, block);
      this.#sorted = [...this.#blocks.values()].sort((one, other) => one.number - other.number);
    }
    const at = address % BLOCK;
    const line = lease === undefined ? undefined : this.#lineOf(lease);
    const before = block.lines[at];
    if (line === before) return false;
    block.lines[at] = line;
    block.bytes = undefined;
    if (before === undefined) block.used++;
    if (line === undefined) block.used--;
    return true;
  }

  /** The whole text, in pieces. */
  pieces(): readonly Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (const block of this.#sorted) {
      if (block.used === 0) continue;
      block.bytes ??= Buffer.from(block.lines.filter((line) => line !== undefined).join(",\n"));
      pieces.push(pieces.length === 0 ? opening : separator, block.bytes);
    }
    return pieces.length === 0 ? [empty] : [...pieces, closing];
  }

  #lineOf({ mac, ip, expiry }: FileLease): string {
    // All leases that were granted in the same second end in the same second.
    if (this.#times.expiry !== expiry) {
      this.#times = { expiry, text: new Date(expiry).toISOString().replace(".000Z", "Z") };
    }
    return JSON.stringify({ mac, ip, expiry: this.#times.text });
  }
}

const opening = Buffer.from("[\n");
const separator = Buffer.from(",\n");
const closing = Buffer.from("\n]\n");
const empty = Buffer.from("[]\n");

export function leasesText(leases: Iterable<FileLease>): LeasesText {
  const text = new LeasesText();
  for (const lease of leases) text.set(parseAddress(lease.ip), lease);
  return text;
}
