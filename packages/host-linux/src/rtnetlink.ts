// The rtnetlink messages that the host network needs: rtnetlink(7) and linux/{rtnetlink,if_link,neighbour}.h.
// Structures are in host byte order, addresses inside attributes in network byte order. Unknown attributes and longer
// known ones are skipped, so that a newer kernel stays readable.

import { type Address, blockOf, lastOf } from "@cocoon-net/core";
import { formatMAC, parseMAC } from "./mac-address.ts";
import {
  type Attribute,
  attributesOf,
  readS32,
  readU32,
  textOf,
  withAttributes,
  writeU16,
  writeU32,
} from "./netlink-message.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;

/** Modifiers of the RTM_NEW… requests. */
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

const AF_INET = 2;

const IFF_UP = 1;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
/** Marks the routes of addresses that other nodes serve; a number that no routing daemon has (rt_protos). */
const RTPROT_MOVED = 205;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;
const RTNH_F_ONLINK = 4;

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_STALE = 4;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Lowercase with colons; undefined for links without one of six bytes. */
  readonly mac: string | undefined;
  /** `bridge`, `veth`, …; undefined for physical and loopback links. */
  readonly kind: string | undefined;
  /** Administratively up (IFF_UP). */
  readonly up: boolean;
}

export type LinkSelector = { readonly name: string } | { readonly index: number } | { readonly mac: string };

/** An IPv4 address with the prefix length of its network: `172.20.100.1/24`. */
export interface InterfaceAddress {
  readonly address: Address;
  readonly prefix: number;
}

export interface LinkRequest {
  readonly index?: number;
  readonly name?: string;
  readonly kind?: string;
  readonly mac?: string | undefined;
  readonly up?: boolean;
}

/** `struct ifinfomsg` */
export function encodeLink(request: LinkRequest): Buffer {
  const header = Buffer.alloc(16);
  writeU32(header, request.index ?? 0, 4);
  if (request.up !== undefined) {
    writeU32(header, request.up ? IFF_UP : 0, 8);
    writeU32(header, IFF_UP, 12);
  }
  const attributes: Attribute[] = [];
  if (request.name !== undefined) attributes.push([IFLA_IFNAME, Buffer.from(`${request.name}\0`)]);
  if (request.mac !== undefined) attributes.push([IFLA_ADDRESS, parseMAC(request.mac)]);
  if (request.kind !== undefined) {
    attributes.push([
      IFLA_LINKINFO,
      withAttributes(Buffer.alloc(0), [[IFLA_INFO_KIND, Buffer.from(`${request.kind}\0`)]]),
    ]);
  }
  return withAttributes(header, attributes);
}

export function decodeLink(message: Buffer): Link {
  const attributes = attributesOf(message, 16);
  const info = attributes.get(IFLA_LINKINFO);
  const kind = info === undefined ? undefined : attributesOf(info, 0).get(IFLA_INFO_KIND);
  const mac = attributes.get(IFLA_ADDRESS);
  return {
    index: readS32(message, 4),
    name: textOf(attributes.get(IFLA_IFNAME)) ?? "",
    mac: mac?.length === 6 ? formatMAC(mac) : undefined,
    kind: textOf(kind),
    up: (readU32(message, 8) & IFF_UP) !== 0,
  };
}

/** Asks for all IPv4 addresses. */
export function encodeAddressQuery(): Buffer {
  const header = Buffer.alloc(8);
  header[0] = AF_INET;
  return header;
}

/** `struct ifaddrmsg` */
export function encodeAddress(index: number, local: InterfaceAddress): Buffer {
  const header = Buffer.alloc(8);
  header[0] = AF_INET;
  header[1] = local.prefix;
  writeU32(header, index, 4);
  const bytes = bytesOf(local.address);
  const attributes: Attribute[] = [
    [IFA_LOCAL, bytes],
    [IFA_ADDRESS, bytes],
  ];
  // A /31 or /32 has no broadcast address (RFC 3021).
  if (local.prefix < 31)
    attributes.push([IFA_BROADCAST, bytesOf(lastOf(blockOf(local.address, local.prefix)))]);
  return withAttributes(header, attributes);
}

export function decodeAddress(message: Buffer): (InterfaceAddress & { readonly index: number }) | undefined {
  const attributes = attributesOf(message, 8);
  const local = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (message[0] !== AF_INET || local?.length !== 4) return undefined;
  return { index: readU32(message, 4), address: local.readUInt32BE(0), prefix: message[1] ?? 0 };
}

/** `struct rtmsg` for `address/32 dev index scope link` in the main table. Written in one piece: a DHCP server makes many. */
export function encodeHostRoute(address: Address, index: number, purpose: "add" | "delete"): Buffer {
  const message = Buffer.alloc(28);
  message[0] = AF_INET;
  message[1] = 32;
  message[4] = RT_TABLE_MAIN;
  if (purpose === "add") {
    message[5] = RTPROT_BOOT;
    message[6] = RT_SCOPE_LINK;
    message[7] = RTN_UNICAST;
  } else {
    // Matches a route of any scope and protocol, so that one which somebody else put there goes too.
    message[6] = RT_SCOPE_NOWHERE;
  }
  writeU16(message, 8, 12);
  writeU16(message, RTA_DST, 14);
  message.writeUInt32BE(address, 16);
  writeU16(message, 8, 20);
  writeU16(message, RTA_OIF, 22);
  writeU32(message, index, 24);
  return message;
}

/** A way out of the host. */
export interface NextHop {
  readonly gateway: Address;
  readonly index: number;
  /** The gateway is taken to be behind the link although no route says so. */
  readonly onlink: boolean;
}

/** `struct rtmsg` for `address/32 via gateway dev index` in the main table, marked as a moved address's. */
export function encodeRouteAway(address: Address, { gateway, index, onlink }: NextHop): Buffer {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  header[1] = 32;
  header[4] = RT_TABLE_MAIN;
  header[5] = RTPROT_MOVED;
  header[6] = RT_SCOPE_UNIVERSE;
  header[7] = RTN_UNICAST;
  if (onlink) writeU32(header, RTNH_F_ONLINK, 8);
  const oif = Buffer.alloc(4);
  writeU32(oif, index, 0);
  return withAttributes(header, [
    [RTA_DST, bytesOf(address)],
    [RTA_OIF, oif],
    [RTA_GATEWAY, bytesOf(gateway)],
  ]);
}

/** The same to delete it: no other route to that /32. */
export function encodeRouteAwayDeletion(address: Address): Buffer {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  header[1] = 32;
  header[4] = RT_TABLE_MAIN;
  header[5] = RTPROT_MOVED;
  header[6] = RT_SCOPE_NOWHERE;
  return withAttributes(header, [[RTA_DST, bytesOf(address)]]);
}

/** The destination of a route that `encodeRouteAway` made; undefined for any other. */
export function decodeRouteAway(message: Buffer): Address | undefined {
  if (message[0] !== AF_INET || message[1] !== 32 || message[4] !== RT_TABLE_MAIN) return undefined;
  if (message[5] !== RTPROT_MOVED) return undefined;
  const destination = attributesOf(message, 12).get(RTA_DST);
  return destination?.length === 4 ? destination.readUInt32BE(0) : undefined;
}

/** A default route of the main table with one gateway; undefined for any other route. */
export function decodeDefaultRoute(message: Buffer): (NextHop & { readonly metric: number }) | undefined {
  const isDefault =
    message[0] === AF_INET && message[1] === 0 && message[4] === RT_TABLE_MAIN && message[7] === RTN_UNICAST;
  if (!isDefault) return undefined;
  const attributes = attributesOf(message, 12);
  const gateway = attributes.get(RTA_GATEWAY);
  const index = attributes.get(RTA_OIF);
  if (gateway?.length !== 4 || index?.length !== 4) return undefined;
  const metric = attributes.get(RTA_PRIORITY);
  return {
    gateway: gateway.readUInt32BE(0),
    index: readU32(index, 0),
    onlink: (readU32(message, 8) & RTNH_F_ONLINK) !== 0,
    metric: metric?.length === 4 ? readU32(metric, 0) : 0,
  };
}

/** Asks for all IPv4 routes. */
export function encodeRouteQuery(): Buffer {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  return header;
}

/** The destination of a directly connected /32 in the main table; undefined for any other route. */
export function decodeHostRoute(message: Buffer): { address: Address; index: number } | undefined {
  const isHostRoute =
    message[0] === AF_INET &&
    message[1] === 32 &&
    message[4] === RT_TABLE_MAIN &&
    message[6] === RT_SCOPE_LINK &&
    message[7] === RTN_UNICAST;
  if (!isHostRoute) return undefined;
  const attributes = attributesOf(message, 12);
  const destination = attributes.get(RTA_DST);
  const index = attributes.get(RTA_OIF);
  if (destination?.length !== 4 || index?.length !== 4 || attributes.has(RTA_GATEWAY)) return undefined;
  return { address: destination.readUInt32BE(0), index: readU32(index, 0) };
}

/** `struct ndmsg`. With a MAC the entry is stale: the kernel uses it at once, verifies it and lets it expire. */
export function encodeNeighbour(address: Address, index: number, mac?: string): Buffer {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  writeU32(header, index, 4);
  const attributes: Attribute[] = [[NDA_DST, bytesOf(address)]];
  if (mac !== undefined) {
    writeU16(header, NUD_STALE, 8);
    attributes.push([NDA_LLADDR, parseMAC(mac)]);
  }
  return withAttributes(header, attributes);
}

function bytesOf(address: Address): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  return bytes;
}
