import type { Address } from "@cocoon-net/core";

/** Options by code, in the order of first appearance; the pieces of a long option joined (RFC 3396). A map is one. */
export interface PacketOptions extends Iterable<readonly [code: number, value: Uint8Array]> {
  get(code: number): Uint8Array | undefined;
  has(code: number): boolean;
  keys(): Iterable<number>;
  values(): Iterable<Uint8Array>;
}

/** A DHCPv4 packet as on the wire (RFC 2131 §2). Byte fields of a decoded packet are views into its buffer. */
export interface DhcpPacket {
  /** 1 = BOOTREQUEST, 2 = BOOTREPLY. */
  readonly op: number;
  readonly htype: number;
  readonly hlen: number;
  readonly hops: number;
  readonly xid: number;
  readonly secs: number;
  /** The top bit is the broadcast flag. */
  readonly flags: number;
  readonly ciaddr: Address;
  readonly yiaddr: Address;
  readonly siaddr: Address;
  readonly giaddr: Address;
  /** 16 bytes; the first `hlen` are the hardware address. */
  readonly chaddr: Uint8Array;
  /** 64 bytes; all zero when option 52 said that it held options. */
  readonly sname: Uint8Array;
  /** 128 bytes; likewise. */
  readonly file: Uint8Array;
  readonly options: PacketOptions;
}

/** Why bytes are not a DHCP packet. Stable words: they are metric labels. */
export type DecodeProblem = "too-short" | "too-long" | "wrong-magic" | "option-overrun" | "bad-overload";

export type Decoded =
  | { readonly ok: true; readonly packet: DhcpPacket }
  | { readonly ok: false; readonly reason: DecodeProblem };

const SNAME = 44;
const FILE = 108;
const HEADER = 240;
const MAGIC = 0x63825363;
const PAD = 0;
const END = 255;
const OVERLOAD = 52;
/** BOOTP clients and relays may drop anything shorter (RFC 1542 §2.1). */
const MIN_SIZE = 300;
/** No client sends fragments; beyond this, joining the pieces of options would cost more than it is worth. */
const MAX_SIZE = 2048;

/** 64 zero bytes for `sname`, 128 for `file`: what a packet without them carries. */
export const noSname: Uint8Array = new Uint8Array(64);
export const noFile: Uint8Array = new Uint8Array(128);

/** Reads a packet. Never throws: whatever is malformed comes back as a reason. */
export function decodePacket(bytes: Uint8Array): Decoded {
  if (bytes.length < HEADER) return { ok: false, reason: "too-short" };
  if (bytes.length > MAX_SIZE) return { ok: false, reason: "too-long" };
  if (wordAt(bytes, 236) !== MAGIC) return { ok: false, reason: "wrong-magic" };
  const end = endOfOptions(bytes, HEADER, bytes.length);
  if (end === undefined) return { ok: false, reason: "option-overrun" };
  const overload = readOption(bytes, HEADER, end, OVERLOAD);
  if (overload === undefined) {
    return { ok: true, packet: new ReceivedPacket(bytes, new OptionField(bytes, HEADER, end), 0) };
  }
  const fields = overload.length === 1 ? (overload[0] ?? 0) : 0;
  if (fields < 1 || fields > 3) return { ok: false, reason: "bad-overload" };
  // RFC 3396 §5: the options field first, then file, then sname. A second option 52 in there changes nothing.
  const fileEnd = (fields & 1) === 0 ? FILE : endOfOptions(bytes, FILE, HEADER - 4);
  const snameEnd = (fields & 2) === 0 ? SNAME : endOfOptions(bytes, SNAME, FILE);
  if (fileEnd === undefined || snameEnd === undefined) return { ok: false, reason: "option-overrun" };
  const pieces = [
    bytes.subarray(HEADER, end),
    bytes.subarray(FILE, fileEnd),
    bytes.subarray(SNAME, snameEnd),
  ];
  const all = joined(pieces);
  return { ok: true, packet: new ReceivedPacket(bytes, new OptionField(all, 0, all.length), fields) };
}

/** A packet that is read where it lies: most of it is asked for once, or never. */
class ReceivedPacket implements DhcpPacket {
  readonly options: PacketOptions;
  readonly #bytes: Uint8Array;
  /** Option 52: which fields held options. */
  readonly #overloaded: number;

  constructor(bytes: Uint8Array, options: PacketOptions, overloaded: number) {
    this.#bytes = bytes;
    this.options = options;
    this.#overloaded = overloaded;
  }

  get op(): number {
    return this.#bytes[0] ?? 0;
  }

  get htype(): number {
    return this.#bytes[1] ?? 0;
  }

  get hlen(): number {
    return this.#bytes[2] ?? 0;
  }

  get hops(): number {
    return this.#bytes[3] ?? 0;
  }

  get xid(): number {
    return wordAt(this.#bytes, 4);
  }

  get secs(): number {
    return wordAt(this.#bytes, 8) >>> 16;
  }

  get flags(): number {
    return wordAt(this.#bytes, 8) & 0xffff;
  }

  get ciaddr(): Address {
    return wordAt(this.#bytes, 12);
  }

  get yiaddr(): Address {
    return wordAt(this.#bytes, 16);
  }

  get siaddr(): Address {
    return wordAt(this.#bytes, 20);
  }

  get giaddr(): Address {
    return wordAt(this.#bytes, 24);
  }

  get chaddr(): Uint8Array {
    return this.#bytes.subarray(28, SNAME);
  }

  get sname(): Uint8Array {
    return (this.#overloaded & 2) === 0 ? this.#bytes.subarray(SNAME, FILE) : noSname;
  }

  get file(): Uint8Array {
    return (this.#overloaded & 1) === 0 ? this.#bytes.subarray(FILE, HEADER - 4) : noFile;
  }
}

/** Options that are looked up where they lie, which `endOfOptions` has found whole. They never show option 52. */
class OptionField implements PacketOptions {
  readonly #bytes: Uint8Array;
  readonly #from: number;
  readonly #to: number;

  constructor(bytes: Uint8Array, from: number, to: number) {
    this.#bytes = bytes;
    this.#from = from;
    this.#to = to;
  }

  get(code: number): Uint8Array | undefined {
    return code === OVERLOAD ? undefined : readOption(this.#bytes, this.#from, this.#to, code);
  }

  has(code: number): boolean {
    return this.get(code) !== undefined;
  }

  keys(): Iterable<number> {
    const codes = new Set<number>();
    for (let at = this.#from; at < this.#to; at = optionAfter(this.#bytes, at))
      codes.add(this.#bytes[at] ?? PAD);
    codes.delete(PAD);
    codes.delete(OVERLOAD);
    return codes;
  }

  *values(): Generator<Uint8Array> {
    for (const [, value] of this) yield value;
  }

  *[Symbol.iterator](): Generator<readonly [code: number, value: Uint8Array]> {
    for (const code of this.keys()) yield [code, this.get(code) ?? new Uint8Array(0)];
  }
}

/** Where the END is, or should be: a missing one is tolerated. Undefined when an option runs past the field. */
function endOfOptions(bytes: Uint8Array, from: number, to: number): number | undefined {
  let at = from;
  while (at < to && bytes[at] !== END) at = optionAfter(bytes, at);
  return at > to ? undefined : at;
}

/** Where the next option begins; beyond the end when this one has no length. */
function optionAfter(bytes: Uint8Array, at: number): number {
  return bytes[at] === PAD ? at + 1 : at + 2 + (bytes[at + 1] ?? 0);
}

/** All pieces of an option, joined. */
function readOption(bytes: Uint8Array, from: number, to: number, code: number): Uint8Array | undefined {
  let value: Uint8Array | undefined;
  let pieces: Uint8Array[] | undefined;
  for (let at = from; at < to; at = optionAfter(bytes, at)) {
    if (bytes[at] !== code) continue;
    const piece = bytes.subarray(at + 2, optionAfter(bytes, at));
    if (value === undefined) value = piece;
    else if (pieces === undefined) pieces = [value, piece];
    else pieces.push(piece);
  }
  return pieces === undefined ? value : joined(pieces);
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** 32 bits in network order. */
export function wordAt(bytes: Uint8Array, at: number): number {
  const low = ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
  return (((bytes[at] ?? 0) << 24) | low) >>> 0;
}

/** Bytes that an option of this length takes on the wire. */
export function optionSize(length: number): number {
  return length + 2 * Math.max(1, Math.ceil(length / 255));
}

/** Writes a packet, at least 300 bytes long. An option longer than 255 bytes is split (RFC 3396). */
export function encodePacket(packet: DhcpPacket): Uint8Array {
  let size = HEADER + 1;
  for (const value of packet.options.values()) size += optionSize(value.length);
  const bytes = new Uint8Array(Math.max(size, MIN_SIZE));
  const view = new DataView(bytes.buffer);
  view.setUint8(0, packet.op);
  view.setUint8(1, packet.htype);
  view.setUint8(2, packet.hlen);
  view.setUint8(3, packet.hops);
  view.setUint32(4, packet.xid);
  view.setUint16(8, packet.secs);
  view.setUint16(10, packet.flags);
  view.setUint32(12, packet.ciaddr);
  view.setUint32(16, packet.yiaddr);
  view.setUint32(20, packet.siaddr);
  view.setUint32(24, packet.giaddr);
  bytes.set(packet.chaddr.subarray(0, 16), 28);
  bytes.set(packet.sname.subarray(0, 64), 44);
  bytes.set(packet.file.subarray(0, 128), 108);
  view.setUint32(236, MAGIC);
  let at = HEADER;
  for (const [code, value] of packet.options) {
    let from = 0;
    do {
      const piece = value.subarray(from, from + 255);
      bytes[at++] = code;
      bytes[at++] = piece.length;
      bytes.set(piece, at);
      at += piece.length;
      from += 255;
    } while (from < value.length);
  }
  bytes[at] = END;
  return bytes;
}
