// Netlink's framing: netlink(7). Everything is in host byte order and padded to four bytes.

import { endianness } from "node:os";

const littleEndian: boolean = endianness() === "LE";
const HEADER_LENGTH = 16;
const ATTRIBUTE_HEADER_LENGTH = 4;
/** Without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
const ATTRIBUTE_TYPE_MASK = 0x3fff;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

export type Attribute = readonly [type: number, value: Uint8Array];

export function readU16(bytes: Buffer, offset: number): number {
  return littleEndian ? bytes.readUInt16LE(offset) : bytes.readUInt16BE(offset);
}

export function readU32(bytes: Buffer, offset: number): number {
  return littleEndian ? bytes.readUInt32LE(offset) : bytes.readUInt32BE(offset);
}

export function readS32(bytes: Buffer, offset: number): number {
  return readU32(bytes, offset) | 0;
}

export function writeU16(bytes: Buffer, value: number, offset: number): void {
  if (littleEndian) bytes.writeUInt16LE(value, offset);
  else bytes.writeUInt16BE(value, offset);
}

export function writeU32(bytes: Buffer, value: number, offset: number): void {
  if (littleEndian) bytes.writeUInt32LE(value, offset);
  else bytes.writeUInt32BE(value, offset);
}

/** One message, padded so that another can follow. */
export function encodeMessage({ type, flags, sequence, payload }: NetlinkMessage): Buffer {
  return encodeMessages(type, flags, sequence, [payload]);
}

/** Messages of one kind behind each other, padded so that others can follow, numbered from `sequence` on. */
export function encodeMessages(
  type: number,
  flags: number,
  sequence: number,
  payloads: readonly Buffer[],
): Buffer {
  const messages = Buffer.alloc(payloads.reduce((size, payload) => size + messageSize(payload), 0));
  let at = 0;
  let number = sequence;
  for (const payload of payloads) {
    writeU32(messages, HEADER_LENGTH + payload.length, at);
    writeU16(messages, type, at + 4);
    writeU16(messages, flags, at + 6);
    writeU32(messages, number++, at + 8);
    payload.copy(messages, at + HEADER_LENGTH);
    at += messageSize(payload);
  }
  return messages;
}

/** What a message with this payload takes among others. */
export function messageSize(payload: Buffer | undefined): number {
  return align(HEADER_LENGTH + (payload?.length ?? 0));
}

/** Takes flags out of the encoded message at `at`. */
export function clearFlags(messages: Buffer, at: number, flags: number): void {
  writeU16(messages, readU16(messages, at + 6) & ~flags, at + 6);
}

/** The messages of a datagram; what follows a damaged header is left out. */
export function decodeMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + HEADER_LENGTH <= datagram.length; ) {
    const length = readU32(datagram, at);
    if (length < HEADER_LENGTH || at + length > datagram.length) break;
    messages.push({
      type: readU16(datagram, at + 4),
      flags: readU16(datagram, at + 6),
      sequence: readU32(datagram, at + 8),
      payload: datagram.subarray(at + HEADER_LENGTH, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** A fixed structure, followed by attributes. */
export function withAttributes(structure: Buffer, attributes: readonly Attribute[]): Buffer {
  const parts = [structure];
  for (const [type, value] of attributes) {
    const length = ATTRIBUTE_HEADER_LENGTH + value.length;
    const attribute = Buffer.alloc(align(length));
    writeU16(attribute, length, 0);
    writeU16(attribute, type, 2);
    attribute.set(value, ATTRIBUTE_HEADER_LENGTH);
    parts.push(attribute);
  }
  return Buffer.concat(parts);
}

/** The attributes that follow a fixed structure of `offset` bytes, by type. */
export function attributesOf(payload: Buffer, offset: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  for (let at = offset; at + ATTRIBUTE_HEADER_LENGTH <= payload.length; ) {
    const length = readU16(payload, at);
    if (length < ATTRIBUTE_HEADER_LENGTH || at + length > payload.length) break;
    const type = readU16(payload, at + 2) & ATTRIBUTE_TYPE_MASK;
    attributes.set(type, payload.subarray(at + ATTRIBUTE_HEADER_LENGTH, at + length));
    at += align(length);
  }
  return attributes;
}

export function textOf(bytes: Buffer | undefined): string | undefined {
  return bytes?.toString("utf8").replace(/\0.*$/s, "");
}

function align(length: number): number {
  return (length + 3) & ~3;
}
