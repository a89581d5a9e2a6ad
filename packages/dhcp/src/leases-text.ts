import { type Address, parseAddress } from "@cocoon-net/core";
import type { Lease } from "./lease.ts";

/** One entry of `leases.json`. */
export type FileLease = Pick<Lease, "mac" | "ip" | "expiry">;

/** The addresses that share all but their last byte. */
interface Block {
  readonly number: number;
  /** How long the line of each address is, by its last byte; 0 when there is none. */
  readonly lengths: Uint16Array;
  /** What its lines say, by the last byte of the address. */
  readonly macs: (string | undefined)[];
  readonly expiries: Float64Array;
  /** Where its first line begins. */
  start: number;
  /** Of its lines, each with the two bytes before it. */
  size: number;
  /** New lines, not laid out yet; empty ones go. */
  changed: Map<number, string> | undefined;
}

const BLOCK = 256;
/** Before each line: `[` or a comma, and a line feed. */
const BEFORE = 2;
const LINE_FEED = 10;
const COMMA = 44;
const OPENING = 91;
const closing = Buffer.from("\n]\n");
/** Of a line besides MAC, address and time; and what of it follows the time. */
const FRAME = JSON.stringify({ mac: "", ip: "", expiry: "" }).length;
const AFTER_TIME = 2;

/**
 * The content of `leases.json`: an array sorted by address, one entry a line, so that equal leases make equal bytes. A
 * change costs what has changed: a renewal is written over, and around a new line the others are moved. To write 64,000
 * leases out anew for each change would take a whole processor.
 */
export class LeasesText {
  readonly #blocks = new Map<number, Block>();
  #sorted: Block[] = [];
  #bytes: Buffer = Buffer.alloc(4096);
  /** What was `#bytes` before the last layout, kept for the next one. */
  #spare: Buffer = Buffer.alloc(4096);
  /** Where the last line ends. */
  #end = 0;
  #times: { readonly expiry: number; readonly text: string } = { expiry: Number.NaN, text: "" };

  /**
   * Takes over what became of these addresses. The bytes that were handed out before must not be in use any more.
   * @returns whether the text changed
   */
  update(addresses: Iterable<Address>, leaseOf: (address: Address) => FileLease | undefined): boolean {
    let isChanged = false;
    let isMoved = false;
    for (const address of addresses) {
      const lease = leaseOf(address);
      const block = this.#blockOf(address);
      const at = address % BLOCK;
      const isSameClient = lease?.mac === block.macs[at];
      if (isSameClient && (lease === undefined || lease.expiry === block.expiries[at])) continue;
      isChanged = true;
      if (lease === undefined || !isSameClient || !this.#overwriteTime(block, at, lease)) {
        block.changed ??= new Map();
        block.changed.set(at, lease === undefined ? "" : this.#lineOf(lease));
        isMoved = true;
      }
      block.macs[at] = lease?.mac;
      block.expiries[at] = lease?.expiry ?? 0;
    }
    if (isMoved) this.#layOut();
    return isChanged;
  }

  /** A renewal changes nothing but the time. @returns whether that fits in its place */
  #overwriteTime(block: Block, at: number, { mac, ip, expiry }: FileLease): boolean {
    const time = this.#timeOf(expiry);
    const length = block.lengths[at] ?? 0;
    if (length !== FRAME + mac.length + ip.length + time.length || block.changed?.has(at)) return false;
    this.#bytes.write(time, this.#positionOf(block, at) + length - AFTER_TIME - time.length, "latin1");
    return true;
  }

  /** The whole text, until the next change. */
  bytes(): Buffer {
    if (this.#end === 0) return Buffer.from("[]\n");
    this.#bytes[0] = OPENING;
    closing.copy(this.#bytes, this.#end);
    return this.#bytes.subarray(0, this.#end + closing.length);
  }

  #blockOf(address: Address): Block {
    const number = Math.floor(address / BLOCK);
    let block = this.#blocks.get(number);
    if (block === undefined) {
      const lines = { lengths: new Uint16Array(BLOCK), macs: [], expiries: new Float64Array(BLOCK) };
      block = { number, ...lines, start: this.#end, size: 0, changed: undefined };
      this.#blocks.set(number, block);
      this.#sorted = [...this.#blocks.values()].sort((one, other) => one.number - other.number);
    }
    return block;
  }

  #positionOf({ start, lengths }: Block, at: number): number {
    let position = start;
    for (let index = 0; index < at; index++) {
      const length = lengths[index] ?? 0;
      if (length > 0) position += BEFORE + length;
    }
    return position + BEFORE;
  }

  #layOut(): void {
    let size = closing.length;
    for (const block of this.#sorted) {
      size += block.size;
      for (const line of block.changed?.values() ?? []) size += BEFORE + line.length;
    }
    const from = this.#bytes;
    const into = this.#spare.length >= size ? this.#spare : Buffer.allocUnsafeSlow(2 * size);
    let end = 0;
    for (const block of this.#sorted) {
      const start = end;
      if (block.changed === undefined) {
        from.copy(into, start, block.start, block.start + block.size);
        end += block.size;
      } else end = layOutBlock(block, block.changed, from, into, start);
      block.start = start;
      block.size = end - start;
      block.changed = undefined;
      // The first line's is an opening bracket as long as it is the first.
      into[start] = COMMA;
    }
    this.#bytes = into;
    this.#spare = from;
    this.#end = end;
  }

  #lineOf({ mac, ip, expiry }: FileLease): string {
    return JSON.stringify({ mac, ip, expiry: this.#timeOf(expiry) });
  }

  #timeOf(expiry: number): string {
    // All leases that were granted in the same second end in the same second.
    if (this.#times.expiry !== expiry) {
      this.#times = { expiry, text: new Date(expiry).toISOString().replace(".000Z", "Z") };
    }
    return this.#times.text;
  }
}

function layOutBlock(
  block: Block,
  changed: ReadonlyMap<number, string>,
  from: Buffer,
  into: Buffer,
  start: number,
): number {
  let read = block.start;
  let end = start;
  for (let index = 0; index < BLOCK; index++) {
    const before = block.lengths[index] ?? 0;
    const line = changed.get(index);
    if (line === undefined) {
      if (before === 0) continue;
      from.copy(into, end, read, read + BEFORE + before);
      into[end] = COMMA;
      end += BEFORE + before;
    } else if (line !== "") {
      into[end] = COMMA;
      into[end + 1] = LINE_FEED;
      end += BEFORE + into.write(line, end + BEFORE, "latin1");
    }
    if (before > 0) read += BEFORE + before;
    if (line !== undefined) block.lengths[index] = line.length;
  }
  return end;
}

export function leasesText(leases: Iterable<FileLease>): LeasesText {
  const text = new LeasesText();
  const byAddress = new Map(Array.from(leases, (lease) => [parseAddress(lease.ip), lease]));
  text.update(byAddress.keys(), (address) => byAddress.get(address));
  return text;
}
