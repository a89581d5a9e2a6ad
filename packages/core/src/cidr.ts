import { type AddressRange, AddressSet, rangeOf, type Span } from "./address-set.ts";
import { InvalidError } from "./errors.ts";
import { type Cidr, formatCidr, lastOf, sizeOf } from "./ipv4.ts";

/** Whether all of `inner` lies in `outer`. */
export function contains(outer: Span, inner: Span): boolean {
  const a = rangeOf(outer);
  const b = rangeOf(inner);
  return a.first <= b.first && b.last <= a.last;
}

/** Whether the two share an address. */
export function overlaps(a: Span, b: Span): boolean {
  const x = rangeOf(a);
  const y = rangeOf(b);
  return x.first <= y.last && y.first <= x.last;
}

/**
 * The blocks of that prefix length inside `cidr`, ascending, made as they are asked for.
 * @throws {InvalidError} when `prefix` is shorter than the block's own, or longer than 32.
 */
export function split(cidr: Cidr, prefix: number): Iterable<Cidr> {
  requirePrefixWithin(cidr, prefix);
  return blocksOf(cidr, prefix);
}

function* blocksOf(cidr: Cidr, prefix: number): Generator<Cidr, void, void> {
  const size = sizeOf(prefix);
  for (let base = cidr.base; base <= lastOf(cidr); base += size) yield { base, prefix };
}

/** The fewest aligned blocks that cover `cidr` less the holes, ascending. Holes may overlap or lie outside. */
export function subtract(cidr: Cidr, holes: Iterable<Span>): Cidr[] {
  const rest = new AddressSet([cidr]);
  for (const hole of holes) rest.remove(hole);
  return [...rest.blocks()];
}

/** The fewest aligned blocks that cover exactly the same addresses, ascending. */
export function aggregate(blocks: Iterable<Span>): Cidr[] {
  return [...new AddressSet(blocks).blocks()];
}

/**
 * The addresses that hosts may have: all but the network and broadcast address; both of a /31 (RFC 3021 §2.1)
 * and the one of a /32.
 */
export function hostRange(cidr: Cidr): AddressRange {
  const { first, last } = rangeOf(cidr);
  return cidr.prefix >= 31 ? { first, last } : { first: first + 1, last: last - 1 };
}

/**
 * The lowest aligned block of that prefix length in `parent` that touches nothing used. For many questions about
 * one parent keep an {@link AddressSet} and ask its `lowestFreeBlock`.
 * @throws {InvalidError} when `prefix` is shorter than the parent's, or longer than 32.
 */
export function nextFreeBlock(parent: Cidr, prefix: number, used: Iterable<Span>): Cidr | undefined {
  requirePrefixWithin(parent, prefix);
  return new AddressSet(used).lowestFreeBlock(parent, prefix);
}

function requirePrefixWithin(cidr: Cidr, prefix: number): void {
  if (Number.isInteger(prefix) && prefix >= cidr.prefix && prefix <= 32) return;
  throw new InvalidError(
    `${formatCidr(cidr)} cannot be cut into /${prefix} blocks; the prefix must be ${cidr.prefix}–32`,
  );
}
