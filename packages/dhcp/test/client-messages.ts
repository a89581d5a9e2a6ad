import { parseAddress, parseCidr } from "@cocoon-net/core";
import {
  type ClientMessageType,
  type DhcpPacket,
  type DhcpRequest,
  type EngineOptions,
  encodePacket,
  messageTypes,
  noFile,
  noSname,
} from "@cocoon-net/dhcp";

/** What tests send as a client. Addresses are dotted quads. */
export interface Message {
  readonly type: ClientMessageType;
  readonly mac: string;
  readonly ciaddr?: string;
  readonly giaddr?: string;
  readonly requested?: string;
  readonly server?: string;
  readonly hostname?: string;
  /** Hex. */
  readonly clientID?: string;
  /** For the engine only. */
  readonly network?: string;
  readonly rapidCommit?: boolean;
  readonly broadcast?: boolean;
  readonly xid?: number;
  readonly options?: ReadonlyMap<number, Uint8Array>;
}

const address = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : parseAddress(text);

/** The message as the engine sees it. */
export function request(message: Message): DhcpRequest {
  return {
    type: message.type,
    mac: message.mac,
    ciaddr: address(message.ciaddr) ?? 0,
    giaddr: address(message.giaddr) ?? 0,
    requestedAddress: address(message.requested),
    serverID: address(message.server),
    clientID: message.clientID,
    hostname: message.hostname,
    network: address(message.network),
    rapidCommit: message.rapidCommit === true,
  };
}

/** The message as a guest sends it. */
export function wire(message: Message): Uint8Array {
  const options = new Map<number, Uint8Array>([[53, Uint8Array.of(messageTypes[message.type])]]);
  if (message.requested !== undefined) options.set(50, addressBytes(message.requested));
  if (message.server !== undefined) options.set(54, addressBytes(message.server));
  if (message.hostname !== undefined) options.set(12, new TextEncoder().encode(message.hostname));
  if (message.clientID !== undefined) options.set(61, Buffer.from(message.clientID, "hex"));
  for (const [code, value] of message.options ?? []) options.set(code, value);
  const chaddr = new Uint8Array(16);
  chaddr.set(message.mac.split(":").map((byte) => Number.parseInt(byte, 16)));
  const packet: DhcpPacket = {
    op: 1,
    htype: 1,
    hlen: 6,
    hops: 0,
    xid: message.xid ?? 1,
    secs: 0,
    flags: message.broadcast ? 0x8000 : 0,
    ciaddr: address(message.ciaddr) ?? 0,
    yiaddr: 0,
    siaddr: 0,
    giaddr: address(message.giaddr) ?? 0,
    chaddr,
    sname: noSname,
    file: noFile,
    options,
  };
  return encodePacket(packet);
}

export function addressBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(".").map(Number));
}

/** `52:54:00:00:00:07` for 7. */
export function macOf(index: number): string {
  const hex = index.toString(16).padStart(6, "0");
  return `52:54:00:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4)}`;
}

export const gateway = "10.0.0.1";

/** 10.0.0.0/24 with the pool 10.0.0.2 … 10.0.0.(size + 1). */
export function optionsWithPool(size: number, more: Partial<EngineOptions> = {}): EngineOptions {
  const base = parseAddress("10.0.0.2");
  return {
    subnet: parseCidr("10.0.0.0/24"),
    gateway: parseAddress(gateway),
    pool: Array.from({ length: size }, (_, index) => base + index),
    dns: [parseAddress("8.8.8.8"), parseAddress("1.1.1.1")],
    placement: "sequential",
    ...more,
  };
}
