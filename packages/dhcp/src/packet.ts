import type { Address } from "@cocoon-net/core";

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
  /** By code, in the order of first appearance; the pieces of a long option joined (RFC 3396). */
  readonly options: ReadonlyMap<number, Uint8Array>;
}

/** Why bytes are not a DHCP packet. Stable words: they are metric labels. */
export type DecodeProblem = "too-short" | "too-long" | "wrong-magic" | "option-overrun" | "bad-overload";

export type Decoded =
  | { readonly ok: true; readonly packet: DhcpPacket }
  | { readonly ok: false; readonly reason: DecodeProblem };

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
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(236) !== MAGIC) return { ok: false, reason: "wrong-magic" };

  const options = new Map<number, Uint8Array>();
  if (!readOptions(bytes, HEADER, options)) return { ok: false, reason: "option-overrun" };
  let sname = bytes.subarray(44, 108);
  let file = bytes.subarray(108, 236);
  const overload = options.get(OVERLOAD);
  if (overload !== undefined) {
    const fields = overload.length === 1 ? (overload[0] ?? 0) : 0;
    if (fields < 1 || fields > 3) return { ok: false, reason: "bad-overload" };
    // RFC 3396 §5: the options field first, then file, then sname. A second option 52 in there changes nothing.
    const fits =
      ((fields & 1) === 0 || readOptions(file, 0, options)) &&
      ((fields & 2) === 0 || readOptions(sname, 0, options));
    if (!fits) return { ok: false, reason: "option-overrun" };
    options.delete(OVERLOAD);
    if ((fields & 1) !== 0) file = noFile;
    if ((fields & 2) !== 0) sname = noSname;
  }
  const packet: DhcpPacket = {
    op: view.getUint8(0),
    htype: view.getUint8(1),
    hlen: view.getUint8(2),
    hops: view.getUint8(3),
    xid: view.getUint32(4),
    secs: view.getUint16(8),
    flags: view.getUint16(10),
    ciaddr: view.getUint32(12),
    yiaddr: view.getUint32(16),
    siaddr: view.getUint32(20),
    giaddr: view.getUint32(24),
    chaddr: bytes.subarray(28, 44),
    sname,
    file,
    options,
  };
  return { ok: true, packet };
}

/** Adds the options from a place to the end; false when one runs past that. A missing END is tolerated. */
function readOptions(field: Uint8Array, from: number, into: Map<number, Uint8Array>): boolean {
  let at = from;
  while (at < field.length) {
    const code = field[at++];
    if (code === undefined || code === END) return true;
    if (code === PAD) continue;
    const length = field[at++];
    if (length === undefined || at + length > field.length) return false;
    const value = field.subarray(at, at + length);
    const earlier = into.get(code);
    into.set(code, earlier === undefined ? value : joined(earlier, value));
    at += length;
  }
  return true;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
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
