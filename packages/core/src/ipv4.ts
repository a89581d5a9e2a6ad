import ipaddr from "ipaddr.js";
import { InvalidError } from "./errors.ts";

/** An IPv4 address as an unsigned 32-bit integer; `10.0.0.1` is `0x0a000001`. */
export type Address = number;

/** An IPv4 block. `base` has no host bits set. */
export interface Cidr {
  readonly base: Address;
  /** Prefix length, 0–32. */
  readonly prefix: number;
}

/** Parses dotted-quad notation. @throws {InvalidError} on anything else, leading zeros included. */
export function parseAddress(text: string, what = "address"): Address {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) {
    throw new InvalidError(`${what} "${text}" is not an IPv4 address like 10.0.0.1`);
  }
  return ipaddr.IPv4.parse(text).octets.reduce((value, octet) => value * 256 + octet, 0);
}

export function formatAddress(address: Address): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Addresses in a block: 256 for a /24. */
export function sizeOf(prefix: number): number {
  return 2 ** (32 - prefix);
}

/**
 * Parses `10.0.0.0/24`. @throws {InvalidError} when malformed, when the prefix is not 0–32, and when host bits
 * are set (the message names the block that was probably meant).
 */
export function parseCidr(text: string, what = "CIDR"): Cidr {
  const match = /^([^/]+)\/(0|[1-9]\d?)$/.exec(text);
  const address = match?.[1];
  const prefix = Number(match?.[2]);
  if (address === undefined || !ipaddr.IPv4.isValidFourPartDecimal(address) || prefix > 32) {
    throw new InvalidError(`${what} "${text}" is not an IPv4 block like 10.0.0.0/24`);
  }
  const cidr = blockOf(parseAddress(address), prefix);
  if (cidr.base !== parseAddress(address)) {
    throw new InvalidError(`${what} "${text}" has host bits set; did you mean ${formatCidr(cidr)}?`);
  }
  return cidr;
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.base)}/${cidr.prefix}`;
}

/** The aligned block of that prefix length which holds `address`. */
export function blockOf(address: Address, prefix: number): Cidr {
  const size = sizeOf(prefix);
  return { base: Math.floor(address / size) * size, prefix };
}

/** The last address of the block: its broadcast address. */
export function lastOf(cidr: Cidr): Address {
  return cidr.base + sizeOf(cidr.prefix) - 1;
}

/** Dotted netmask: `255.255.255.0` for 24. */
export function netmaskOf(prefix: number): Address {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}
