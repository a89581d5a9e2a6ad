import { type Address, formatAddress, netmaskOf } from "@cocoon-net/core";
import type { NakReason } from "./decision.ts";
import type { EngineOptions } from "./engine-options.ts";
import { type DhcpPacket, encodePacket, noFile, noSname, optionSize } from "./packet.ts";
import type { Endpoint } from "./ports.ts";
import { type MessageType, messageTypes } from "./request.ts";

export type Answer =
  | { readonly type: "offer" | "ack"; readonly address: Address; readonly leaseMs: number }
  /** The ACK to an INFORM: no yiaddr, no lease time (RFC 2131 §4.3.5). */
  | { readonly type: "inform-ack"; readonly address: Address }
  | { readonly type: "nak"; readonly reason: NakReason };

export interface Reply {
  readonly bytes: Uint8Array;
  readonly to: Endpoint;
  /** The client cannot answer ARP for this address yet: a neighbour entry has to make the unicast reach it. */
  readonly neighbour: string | undefined;
}

export const broadcastTo: Endpoint = { address: "255.255.255.255", port: 68 };
const serverPort = 67;
const clientPort = 68;
const broadcastFlag = 0x8000;
const headerSize = 240;
/** What every client takes (RFC 2131 §2), less the IP and UDP headers. */
const leastSize = 576 - 28;
const mostSize = 1500 - 28;

/** Builds what a client gets and says where to send it (RFC 2131 §4.1). */
export function buildReply(packet: DhcpPacket, answer: Answer, options: Required<EngineOptions>): Reply {
  const giaddr = packet.giaddr;
  const nak = answer.type === "nak";
  const yiaddr = answer.type === "offer" || answer.type === "ack" ? answer.address : 0;
  const to = destinationOf(packet, answer);
  const reply: DhcpPacket = {
    op: 2,
    htype: packet.htype,
    hlen: packet.hlen,
    hops: 0,
    xid: packet.xid,
    secs: 0,
    // RFC 2131 §4.3.2: a relay has to broadcast a NAK, for the client's address is wrong.
    flags: nak && giaddr !== 0 ? packet.flags | broadcastFlag : packet.flags,
    ciaddr: answer.type === "ack" || answer.type === "inform-ack" ? packet.ciaddr : 0,
    yiaddr,
    siaddr: nak ? 0 : options.gateway,
    giaddr,
    chaddr: packet.chaddr,
    sname: noSname,
    file: noFile,
    options: replyOptions(packet, answer, options),
  };
  const unicast = yiaddr !== 0 && to.port === clientPort && to.address !== broadcastTo.address;
  const neighbour = unicast && packet.ciaddr !== yiaddr ? to.address : undefined;
  return { bytes: encodePacket(reply), to, neighbour };
}

function destinationOf(packet: DhcpPacket, answer: Answer): Endpoint {
  if (packet.giaddr !== 0) return { address: formatAddress(packet.giaddr), port: serverPort };
  if (answer.type === "nak") return broadcastTo;
  // ciaddr is trusted only where it is the address that we are talking about; else it could aim our replies.
  if (answer.address === packet.ciaddr || answer.type === "inform-ack") {
    return { address: formatAddress(answer.address), port: clientPort };
  }
  if ((packet.flags & broadcastFlag) !== 0) return broadcastTo;
  return { address: formatAddress(answer.address), port: clientPort };
}

function replyOptions(
  packet: DhcpPacket,
  answer: Answer,
  options: Required<EngineOptions>,
): Map<number, Uint8Array> {
  const type: MessageType = answer.type === "inform-ack" ? "ack" : answer.type;
  const out = new Map<number, Uint8Array>([
    [53, Uint8Array.of(messageTypes[type])],
    [54, addressBytes(options.gateway)],
  ]);
  const clientID = packet.options.get(61);
  const relay = packet.options.get(82);
  if (answer.type === "nak") {
    out.set(56, new TextEncoder().encode(answer.reason));
  } else {
    const seconds = answer.type === "inform-ack" ? undefined : Math.floor(answer.leaseMs / 1000);
    if (seconds !== undefined) out.set(51, secondsBytes(seconds));
    let room = sizeLimit(packet) - headerSize - 1;
    for (const value of [...out.values(), clientID, relay])
      if (value !== undefined) room -= optionSize(value.length);
    for (const [code, value] of byPreference(parameters(options, seconds), packet.options.get(55))) {
      const size = optionSize(value.length);
      if (size > room) continue;
      room -= size;
      out.set(code, value);
    }
  }
  if (clientID !== undefined) out.set(61, clientID); // RFC 6842
  if (relay !== undefined) out.set(82, relay); // RFC 3046 §2.2: last
  return out;
}

/** What every client gets, whether it asked or not, in the order of importance. */
function parameters(options: Required<EngineOptions>, seconds: number | undefined): Map<number, Uint8Array> {
  const values = new Map<number, Uint8Array>([
    [1, addressBytes(netmaskOf(options.subnet.prefix))],
    [3, addressBytes(options.gateway)],
  ]);
  if (options.dns.length > 0) values.set(6, addressBytes(...options.dns));
  if (seconds !== undefined) {
    values.set(58, secondsBytes(Math.floor(seconds / 2))); // T1 and T2: RFC 2131 §4.4.5
    values.set(59, secondsBytes(Math.floor(seconds * 0.875)));
  }
  return values;
}

/** Those that the client listed (option 55) first, in its order. */
function byPreference(
  values: Map<number, Uint8Array>,
  list: Uint8Array | undefined,
): Map<number, Uint8Array> {
  if (list === undefined) return values;
  const ordered = new Map<number, Uint8Array>();
  for (const code of list) {
    const value = values.get(code);
    if (value !== undefined) ordered.set(code, value);
  }
  for (const [code, value] of values) if (!ordered.has(code)) ordered.set(code, value);
  return ordered;
}

/** Option 57, within what any client takes and what a bridge carries. */
function sizeLimit(packet: DhcpPacket): number {
  const option = packet.options.get(57);
  if (option?.length !== 2) return leastSize;
  const stated = ((option[0] ?? 0) << 8) | (option[1] ?? 0);
  return Math.min(mostSize, Math.max(leastSize, stated - 28));
}

function addressBytes(...addresses: readonly Address[]): Uint8Array {
  const bytes = new Uint8Array(4 * addresses.length);
  const view = new DataView(bytes.buffer);
  for (const [index, address] of addresses.entries()) view.setUint32(4 * index, address);
  return bytes;
}

/** 0xffffffff means "for ever" (RFC 2132 §9.2), which we never grant. */
function secondsBytes(seconds: number): Uint8Array {
  return addressBytes(Math.min(seconds, 0xfffffffe));
}
