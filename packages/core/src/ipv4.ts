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
  const address = readDottedQuad(text);
  if (address === undefined) throw new InvalidError(`${what} "${text}" is not an IPv4 address like 10.0.0.1`);
  return address;
}

/** By hand: a DHCP server or a controller parses millions of these. */
function readDottedQuad(text: string): Address | undefined {
  let address = 0;
  let octets = 0;
  for (let at = 0; at <= text.length; at++) {
    const start = at;
    let octet = 0;
    for (; at < text.length; at++) {
      const digit = text.charCodeAt(at) - 48;
      if (digit < 0 || digit > 9) break;
      octet = octet * 10 + digit;
    }
    const digits = at - start;
    const isOctet = digits > 0 && digits <= 3 && octet <= 255 && (digits === 1 || text[start] !== "0");
    if (!isOctet || (at < text.length && text[at] !== ".")) return undefined;
    address = address * 256 + octet;
    octets++;
  }
  return octets === 4 ? address : undefined;
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
  const start = address === undefined ? undefined : readDottedQuad(address);
  if (start === undefined || prefix > 32) {
    throw new InvalidError(`${what} "${text}" is not an IPv4 block like 10.0.0.0/24`);
  }
  const cidr = blockOf(start, prefix);
  if (cidr.base !== start) {
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
