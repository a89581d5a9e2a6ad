import { type Address, formatAddress } from "@cocoon-net/core";
import type { NakReason } from "./decision.ts";
import { addressBytes } from "./option-settings.ts";
import { type DhcpPacket, encodePacket, noFile, noSname, optionSize } from "./packet.ts";
import type { Endpoint } from "./ports.ts";
import type { ReplyParameters } from "./reply-parameters.ts";
import { type MessageType, messageTypes } from "./request.ts";

export type Answer =
  | { readonly type: "offer" | "ack"; readonly address: Address; readonly leaseMs: number }
  /** The ACK to an INFORM: no yiaddr, no lease time (RFC 2131 §4.3.5). */
  | { readonly type: "inform-ack"; readonly address: Address }
  | { readonly type: "nak"; readonly reason: NakReason };

export interface Reply {
  readonly bytes: Uint8Array;
  readonly to: Endpoint;
  /** What the client's address has to resolve to before the reply leaves: the client cannot answer ARP for it yet. */
  readonly neighbour: string | undefined;
}

export const broadcastTo: Endpoint = { address: "255.255.255.255", port: 68 };
const serverPort = 67;
const clientPort = 68;
const broadcastFlag = 0x8000;
const headerSize = 240;
/** BOOTP clients and relays may drop anything shorter (RFC 1542 §2.1). */
const minSize = 300;
/** What every client takes (RFC 2131 §2), less the IP and UDP headers. */
const leastSize = 576 - 28;
const mostSize = 1500 - 28;
const overloadSize = 3;

/** Builds what a client gets and says where to send it (RFC 2131 §4.1). */
export function buildReply(packet: DhcpPacket, answer: Answer, parameters: ReplyParameters): Reply {
  const giaddr = packet.giaddr;
  const nak = answer.type === "nak";
  const yiaddr = answer.type === "offer" || answer.type === "ack" ? answer.address : 0;
  const to = destinationOf(packet, answer);
  const after = echoed(packet);
  let afterSize = 0;
  for (const [, value] of after) afterSize += optionSize(value.length);
  const template = templateOf(packet, answer, parameters, afterSize);
  const size = template.bytes.length;
  const bytes = Buffer.allocUnsafe(size);
  bytes.set(template.bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, size);
  bytes[0] = 2;
  bytes[1] = packet.htype;
  bytes[2] = packet.hlen;
  view.setUint32(4, packet.xid);
  // RFC 2131 §4.3.2: a relay has to broadcast a NAK, for the client's address is wrong.
  view.setUint16(10, nak && giaddr !== 0 ? packet.flags | broadcastFlag : packet.flags);
  view.setUint32(12, answer.type === "ack" || answer.type === "inform-ack" ? packet.ciaddr : 0);
  view.setUint32(16, yiaddr);
  view.setUint32(20, nak ? 0 : parameters.siaddr);
  view.setUint32(24, giaddr);
  bytes.set(packet.chaddr, 28);
  let at = template.end;
  for (const [code, value] of after) at = put(bytes, at, code, value);
  bytes[at] = 255;
  // Broadcasts of an ACK included: what the address resolved to before was another client, perhaps.
  const isNew = yiaddr !== 0 && giaddr === 0 && packet.ciaddr !== yiaddr;
  const neighbour =
    isNew && (to !== broadcastTo || answer.type === "ack") ? formatAddress(yiaddr) : undefined;
  return { bytes, to, neighbour };
}

/** What a reply depends on besides what is different for each client. */
interface Kind {
  readonly type: "offer" | "ack" | "inform-ack";
  /** Of the lease; 0: it names none. */
  readonly seconds: number;
  readonly isRapid: boolean;
  readonly sizeLimit: number;
  /** What the options take that come back to the client. */
  readonly afterSize: number;
  /** Option 55. */
  readonly asked: Uint8Array | undefined;
}

/** A reply without what is different for each client. */
interface Template {
  readonly bytes: Uint8Array;
  /** Where the options begin that come back to the client; zeros up to the end. */
  readonly end: number;
}

/** Clients of one kind all get the same options: those are put together once. By a hash of the kind. */
const templates = new WeakMap<ReplyParameters, Map<number, Template & { readonly kind: Kind }>>();
/** Clients choose what they ask for; how many kinds of them are remembered is our choice. */
const mostTemplates = 256;

function templateOf(
  packet: DhcpPacket,
  answer: Answer,
  parameters: ReplyParameters,
  afterSize: number,
): Template {
  if (answer.type === "nak") return encodeTemplate(layOut(packet, answer, parameters, afterSize), afterSize);
  const kind: Kind = {
    type: answer.type,
    seconds: answer.type === "inform-ack" ? 0 : Math.floor(answer.leaseMs / 1000),
    isRapid: isRapid(packet, answer),
    sizeLimit: sizeLimit(packet),
    afterSize,
    asked: packet.options.get(55),
  };
  let known = templates.get(parameters);
  if (known === undefined || known.size > mostTemplates) {
    known = new Map();
    templates.set(parameters, known);
  }
  const hash = hashOfKind(kind);
  const found = known.get(hash);
  if (found !== undefined && isSameKind(found.kind, kind)) return found;
  const template = encodeTemplate(layOut(packet, answer, parameters, afterSize), afterSize);
  // A copy: what was asked for lies in the packet.
  known.set(hash, { ...template, kind: { ...kind, asked: kind.asked && new Uint8Array(kind.asked) } });
  return template;
}

/** FNV-1a, as far as it has to tell kinds apart. */
function hashOfKind({ type, seconds, sizeLimit, afterSize, asked }: Kind): number {
  let hash = Math.imul(type.length ^ seconds, 0x01000193);
  hash = Math.imul(hash ^ sizeLimit, 0x01000193);
  hash = Math.imul(hash ^ afterSize, 0x01000193);
  const length = asked?.length ?? 0;
  for (let at = 0; at < length; at++) hash = Math.imul(hash ^ (asked?.[at] ?? 0), 0x01000193);
  return hash;
}

function isSameKind(one: Kind, other: Kind): boolean {
  if (one.type !== other.type || one.seconds !== other.seconds || one.isRapid !== other.isRapid) return false;
  if (one.sizeLimit !== other.sizeLimit || one.afterSize !== other.afterSize) return false;
  const { asked } = one;
  if (asked?.length !== other.asked?.length) return false;
  const length = asked?.length ?? 0;
  for (let at = 0; at < length; at++) if (asked?.[at] !== other.asked?.[at]) return false;
  return true;
}

function encodeTemplate(layout: Layout, afterSize: number): Template {
  let end = headerSize;
  for (const value of layout.options.values()) end += optionSize(value.length);
  const none = { hops: 0, secs: 0, flags: 0, ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0 };
  const packet = { op: 2, htype: 0, hlen: 0, xid: 0, ...none, chaddr: new Uint8Array(16), ...layout };
  const bytes = new Uint8Array(Math.max(minSize, end + afterSize + 1));
  bytes.set(encodePacket(packet).subarray(0, end));
  return { bytes, end };
}

function isRapid(packet: DhcpPacket, answer: Answer): boolean {
  return answer.type === "ack" && packet.options.get(53)?.[0] === messageTypes.discover;
}

function destinationOf(packet: DhcpPacket, answer: Answer): Endpoint {
  // ciaddr is trusted only where it is the address that we are talking about; else it could aim our replies.
  if (answer.type === "inform-ack") return { address: formatAddress(answer.address), port: clientPort };
  if (packet.giaddr !== 0) return relayAt(packet.giaddr);
  if (answer.type === "nak") return broadcastTo;
  if (answer.address !== packet.ciaddr && (packet.flags & broadcastFlag) !== 0) return broadcastTo;
  return { address: formatAddress(answer.address), port: clientPort };
}

let lastRelay: { readonly giaddr: Address; readonly endpoint: Endpoint } | undefined;

/** A relay speaks for many clients. */
function relayAt(giaddr: Address): Endpoint {
  if (lastRelay?.giaddr !== giaddr) {
    lastRelay = { giaddr, endpoint: { address: formatAddress(giaddr), port: serverPort } };
  }
  return lastRelay.endpoint;
}

interface Layout {
  readonly options: Map<number, Uint8Array>;
  readonly sname: Uint8Array;
  readonly file: Uint8Array;
}

/** Puts in what must be there, then what fits, the options that the client listed (55) first, in its order. */
function layOut(packet: DhcpPacket, answer: Answer, parameters: ReplyParameters, afterSize: number): Layout {
  const type: MessageType = answer.type === "inform-ack" ? "ack" : answer.type;
  const options = new Map<number, Uint8Array>([
    [53, Uint8Array.of(messageTypes[type])],
    [54, addressBytes(parameters.serverID)],
  ]);
  if (answer.type === "nak") {
    options.set(56, new TextEncoder().encode(answer.reason));
    return { options, sname: noSname, file: noFile };
  }
  const seconds = answer.type === "inform-ack" ? undefined : Math.floor(answer.leaseMs / 1000);
  if (seconds !== undefined) options.set(51, secondsBytes(seconds));
  if (isRapid(packet, answer)) options.set(80, new Uint8Array(0)); // RFC 4039 §3.1
  let room = sizeLimit(packet) - headerSize - 1 - afterSize;
  for (const value of options.values()) room -= optionSize(value.length);

  const wanted = byPreference(withTimes(parameters, seconds), packet.options.get(55));
  let size = 0;
  for (const [, value] of wanted) size += optionSize(value.length);
  const isTight = size > room;
  const overflow = isTight ? new Overflow() : undefined;
  if (isTight) room -= overloadSize;
  for (const [code, value] of wanted) {
    const needs = optionSize(value.length);
    if (needs <= room) {
      room -= needs;
      options.set(code, value);
    } else overflow?.add(code, value);
  }
  const fields = overflow?.fields ?? 0;
  if (fields !== 0) options.set(52, Uint8Array.of(fields));
  return {
    options,
    // Boot ROMs look there first.
    sname: (fields & 2) !== 0 ? (overflow?.sname ?? noSname) : textField(parameters.values.get(66), noSname),
    file: (fields & 1) !== 0 ? (overflow?.file ?? noFile) : textField(parameters.values.get(67), noFile),
  };
}

/** The fields `file` and `sname` as room for options (option 52, RFC 2132 §9.3). */
class Overflow {
  readonly file: Uint8Array = new Uint8Array(128);
  readonly sname: Uint8Array = new Uint8Array(64);
  #fileEnd = 0;
  #snameEnd = 0;

  /** Adds the option where it fits, else leaves it out. */
  add(code: number, value: Uint8Array): void {
    const size = 2 + value.length;
    // One byte stays for END.
    if (this.#fileEnd + size < this.file.length) this.#fileEnd = put(this.file, this.#fileEnd, code, value);
    else if (this.#snameEnd + size < this.sname.length) {
      this.#snameEnd = put(this.sname, this.#snameEnd, code, value);
    }
  }

  get fields(): number {
    return (this.#fileEnd > 0 ? 1 : 0) | (this.#snameEnd > 0 ? 2 : 0);
  }
}

/** Writes an option of at most 255 bytes and an END behind it. @returns where the END is */
function put(field: Uint8Array, at: number, code: number, value: Uint8Array): number {
  field[at] = code;
  field[at + 1] = value.length;
  field.set(value, at + 2);
  field[at + 2 + value.length] = 255;
  return at + 2 + value.length;
}

/** A text with its terminating NUL, if it fits. */
function textField(text: Uint8Array | undefined, empty: Uint8Array): Uint8Array {
  if (text === undefined || text.length >= empty.length) return empty;
  const field = new Uint8Array(empty.length);
  field.set(text);
  return field;
}

/** What comes back to the client (RFC 6842, RFC 3011) and, last, to the relay (RFC 3046 §2.2). */
function echoed(packet: DhcpPacket): readonly (readonly [code: number, value: Uint8Array])[] {
  const values: [number, Uint8Array][] = [];
  const clientID = packet.options.get(61);
  if (clientID !== undefined && clientID.length >= 2 && clientID.length <= 255) values.push([61, clientID]);
  const network = packet.options.get(118);
  if (network?.length === 4) values.push([118, network]);
  const relay = packet.options.get(82);
  if (relay !== undefined && relay.length > 0 && relay.length <= 255) values.push([82, relay]);
  return values;
}

/** T1 and T2 (RFC 2131 §4.4.5) fit the lease, whatever is set for longer ones. */
function withTimes(
  parameters: ReplyParameters,
  seconds: number | undefined,
): readonly (readonly [number, Uint8Array])[] {
  if (seconds === undefined) return [...parameters.values];
  const { renewMs, rebindMs } = parameters;
  const latest = Math.floor(seconds * 0.875);
  const t2 = rebindMs === undefined || rebindMs >= seconds * 1000 ? latest : Math.floor(rebindMs / 1000);
  const half = Math.min(Math.floor(seconds / 2), t2);
  const t1 = renewMs === undefined || renewMs > t2 * 1000 ? half : Math.floor(renewMs / 1000);
  return [...parameters.values, [58, secondsBytes(t1)], [59, secondsBytes(t2)]];
}

/** Those that the client listed (option 55) first, in its order. */
function byPreference(
  values: readonly (readonly [number, Uint8Array])[],
  list: Uint8Array | undefined,
): readonly (readonly [number, Uint8Array])[] {
  if (list === undefined) return values;
  const rank = new Map<number, number>();
  for (const code of list) if (!rank.has(code)) rank.set(code, rank.size);
  const rankOf = ([code]: readonly [number, Uint8Array]): number => rank.get(code) ?? 256;
  return values.toSorted((one, other) => rankOf(one) - rankOf(other));
}

/** Option 57, within what any client takes and what a bridge carries. */
function sizeLimit(packet: DhcpPacket): number {
  const option = packet.options.get(57);
  if (option?.length !== 2) return leastSize;
  const stated = ((option[0] ?? 0) << 8) | (option[1] ?? 0);
  return Math.min(mostSize, Math.max(leastSize, stated - 28));
}

/** 0xffffffff means "for ever" (RFC 2132 §9.7), which we never grant. */
function secondsBytes(seconds: number): Uint8Array {
  return addressBytes(Math.min(seconds, 0xfffffffe));
}
