import type { Address } from "@cocoon-net/core";
import { type DhcpPacket, type PacketOptions, wordAt } from "./packet.ts";

/** Option 53 (RFC 2132 §9.6). */
export const messageTypes = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

export type MessageType = keyof typeof messageTypes;
/** What a client may send. */
export type ClientMessageType = "discover" | "request" | "decline" | "release" | "inform";

/** A client's message: what the engine decides on. 0 stands for an address field that is not set. */
export interface DhcpRequest {
  readonly type: ClientMessageType;
  /** Lowercase, with colons. */
  readonly mac: string;
  readonly ciaddr: Address;
  readonly giaddr: Address;
  /** Option 50. */
  readonly requestedAddress: Address | undefined;
  /** Option 54. */
  readonly serverID: Address | undefined;
  /** Option 61, lowercase hex. */
  readonly clientID: string | undefined;
  /** Option 12; undefined when absent or not printable ASCII. */
  readonly hostname: string | undefined;
  /** The network that the relay (option 82, sub-option 5, RFC 3527) or the client (option 118, RFC 3011) names. */
  readonly network?: Address | undefined;
  /** Option 80: the client takes an ACK to its DISCOVER (RFC 4039). */
  readonly rapidCommit?: boolean;
}

/** Why a packet is no message for a server. Stable words: they are metric labels. */
export type RequestProblem =
  | "not-a-request"
  | "wrong-hardware"
  | "no-message-type"
  | "not-from-a-client"
  | "bad-option";

/**
 * Who the client is: leases are kept under this key. It is the MAC, which the host gives to the VM and `macspoofchk` pins:
 * a boot ROM and the system that it boots have one MAC and send different client identifiers, and are one VM with one
 * address, while VMs cloned from one image may send the same client identifier and must not share an address. So the
 * client identifier is the second key: a client whose MAC is not known gets the address that its client identifier had
 * last, once nobody holds that, and a reservation may name either.
 */
export function identityOf(message: Pick<DhcpRequest, "mac">): string {
  return message.mac;
}

/** Whether it is a MAC as in `DhcpRequest`. */
export function isMac(text: string): boolean {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text);
}

const fromClient = new Map<number, ClientMessageType>([
  [messageTypes.discover, "discover"],
  [messageTypes.request, "request"],
  [messageTypes.decline, "decline"],
  [messageTypes.release, "release"],
  [messageTypes.inform, "inform"],
]);

/** Reads what the engine needs from a packet; a string says why it is not a client's message. */
export function readRequest(packet: DhcpPacket): DhcpRequest | RequestProblem {
  if (packet.op !== 1) return "not-a-request";
  if (packet.htype !== 1 || packet.hlen !== 6) return "wrong-hardware";
  const { chaddr } = packet;
  const mac = formatMac(chaddr);
  // A group address (or none at all) cannot be a sender; a reply to it would reach every guest.
  if (((chaddr[0] ?? 1) & 1) === 1 || mac === "00:00:00:00:00:00") return "wrong-hardware";
  const typeOption = packet.options.get(53);
  if (typeOption === undefined) return "no-message-type";
  if (typeOption.length !== 1) return "bad-option";
  const type = fromClient.get(typeOption[0] ?? 0);
  if (type === undefined) return "not-from-a-client";
  const requestedAddress = readAddress(packet.options.get(50));
  const serverID = readAddress(packet.options.get(54));
  const network = readNetwork(packet.options);
  if (requestedAddress === "bad-option" || serverID === "bad-option" || network === "bad-option") {
    return "bad-option";
  }
  return {
    type,
    mac,
    ciaddr: packet.ciaddr,
    giaddr: packet.giaddr,
    requestedAddress,
    serverID,
    clientID: readClientID(packet.options.get(61)),
    hostname: readHostname(packet.options.get(12)),
    network,
    rapidCommit: packet.options.has(80),
  };
}

function readNetwork(options: PacketOptions): Address | undefined | "bad-option" {
  const relay = options.get(82);
  for (let at = 0; relay !== undefined && at + 2 <= relay.length; ) {
    const length = relay[at + 1] ?? 0;
    if (relay[at] === 5) return readAddress(relay.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return readAddress(options.get(118));
}

const hexOf: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** The first six bytes as `52:54:00:ab:cd:ef`. */
export function formatMac(bytes: Uint8Array): string {
  const high = (at: number): number => digit((bytes[at] ?? 0) >> 4);
  const low = (at: number): number => digit((bytes[at] ?? 0) & 15);
  // In one piece: what is put together from pieces stays so for as long as a lease, and takes twice the memory.
  return String.fromCharCode(
    high(0),
    low(0),
    colon,
    high(1),
    low(1),
    colon,
    high(2),
    low(2),
    colon,
    high(3),
    low(3),
    colon,
    high(4),
    low(4),
    colon,
    high(5),
    low(5),
  );
}

const colon = 0x3a;

function digit(value: number): number {
  return value < 10 ? 0x30 + value : 0x57 + value;
}

function readAddress(option: Uint8Array | undefined): Address | undefined | "bad-option" {
  if (option === undefined) return undefined;
  if (option.length !== 4) return "bad-option";
  return wordAt(option, 0);
}

/** A type byte and at least one more (RFC 2132 §9.14); a shorter one identifies nobody. */
function readClientID(option: Uint8Array | undefined): string | undefined {
  if (option === undefined || option.length < 2 || option.length > 255) return undefined;
  let text = "";
  for (const byte of option) text += hexOf[byte];
  return text;
}

function readHostname(option: Uint8Array | undefined): string | undefined {
  if (option === undefined) return undefined;
  let length = option.length;
  while (length > 0 && option[length - 1] === 0) length--; // some clients count the terminating NUL
  if (length === 0 || length > 255) return undefined;
  let text = "";
  for (let index = 0; index < length; index++) {
    const byte = option[index] ?? 0;
    if (byte <= 0x20 || byte >= 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}
