import { type Address, type Cidr, lastOf, sizeOf } from "./ipv4.ts";

/** Consecutive addresses, both ends included. */
export interface AddressRange {
  readonly first: Address;
  readonly last: Address;
}

/** What goes into or out of a set: one address, an aligned block, or any run of addresses. */
export type Span = Address | Cidr | AddressRange;

/**
 * A set of IPv4 addresses that knows its size, its runs and its gaps.
 *
 * It is a binary trie over the 32 bits of an address in which a subtree that is wholly in or wholly out is one
 * leaf, so the leaves are the fewest aligned blocks that make up the set. Every branch knows how many addresses
 * it holds and how wide its widest free aligned block is. Hence every operation on one span walks at most two
 * paths of 32 steps, whatever the set holds: finding the last free address costs what finding the first does.
 * A balanced tree of runs would need rotations for the same bounds and could not answer for aligned blocks.
 *
 * Trees are never changed in place, so copies and the results of set algebra share what they have in common.
 */
export class AddressSet implements Iterable<Address> {
  #root: Tree = false;

  constructor(spans: Iterable<Span> = []) {
    for (const span of spans) this.add(span);
  }

  /** How many addresses the set holds, up to 2^32. */
  get size(): number {
    return countOf(this.#root, universe);
  }

  add(span: Span): void {
    this.#root = fill(this.#root, 0, universe, rangeOf(span), true);
  }

  remove(span: Span): void {
    this.#root = fill(this.#root, 0, universe, rangeOf(span), false);
  }

  /** Whether the set holds the whole span. */
  has(span: Span): boolean {
    const range = rangeOf(span);
    return this.count(range) === range.last - range.first + 1;
  }

  /** Whether the set holds any address of the span. */
  overlaps(span: Span): boolean {
    return this.count(span) > 0;
  }

  /** How many addresses of the span the set holds. */
  count(span: Span): number {
    return countWithin(this.#root, 0, universe, rangeOf(span));
  }

  /** The address with `index` smaller ones in the set; undefined unless 0 ≤ index < size. */
  nth(index: number): Address | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.size) return undefined;
    let tree = this.#root;
    let base = 0;
    let width = universe;
    let rest = index;
    while (typeof tree === "object") {
      width /= 2;
      const before = countOf(tree.low, width);
      if (rest < before) {
        tree = tree.low;
      } else {
        rest -= before;
        base += width;
        tree = tree.high;
      }
    }
    return base + rest;
  }

  /** The lowest address of `within` that is not in the set. */
  lowestFree(within: Span): Address | undefined {
    return firstFree(this.#root, 0, universe, rangeOf(within), 1);
  }

  /** The lowest aligned block of that prefix length, inside `within`, of which nothing is in the set. */
  lowestFreeBlock(within: Span, prefix: number): Cidr | undefined {
    const base = firstFree(this.#root, 0, universe, rangeOf(within), sizeOf(prefix));
    return base === undefined ? undefined : { base, prefix };
  }

  union(other: AddressSet): AddressSet {
    return this.#combine(other, (a, b) => a || b);
  }

  intersect(other: AddressSet): AddressSet {
    return this.#combine(other, (a, b) => a && b);
  }

  subtract(other: AddressSet): AddressSet {
    return this.#combine(other, (a, b) => a && !b);
  }

  /** An independent copy, in constant time. */
  clone(): AddressSet {
    return this.#with(this.#root);
  }

  /** Whether both hold the same addresses. */
  equals(other: AddressSet): boolean {
    return this.#combine(other, (a, b) => a !== b).size === 0;
  }

  /** The fewest aligned blocks that make up the set, ascending. Reads the set as it is now. */
  blocks(): Iterable<Cidr> {
    return leaves(this.#root, 0, 0);
  }

  /** The fewest runs that make up the set, ascending. Reads the set as it is now. */
  *ranges(): Generator<AddressRange, void, void> {
    let run: AddressRange | undefined;
    for (const block of leaves(this.#root, 0, 0)) {
      const next: AddressRange = rangeOf(block);
      if (run && run.last + 1 === next.first) {
        run = { first: run.first, last: next.last };
      } else {
        if (run) yield run;
        run = next;
      }
    }
    if (run) yield run;
  }

  /** Every address, ascending. */
  *[Symbol.iterator](): Generator<Address, void, void> {
    for (const { first, last } of this.ranges()) {
      for (let address = first; address <= last; address++) yield address;
    }
  }

  #combine(other: AddressSet, rule: Rule): AddressSet {
    return this.#with(combine(this.#root, other.#root, universe, rule));
  }

  #with(root: Tree): AddressSet {
    const set = new AddressSet();
    set.#root = root;
    return set;
  }
}

/** The first and last address of a span. */
export function rangeOf(span: Span): AddressRange {
  if (typeof span === "number") return { first: span, last: span };
  return "base" in span ? { first: span.base, last: lastOf(span) } : span;
}

/** `true`: every address of the subtree is in the set. `false`: none is. */
type Tree = boolean | Branch;

interface Branch {
  readonly low: Tree;
  readonly high: Tree;
  readonly count: number;
  /** Addresses in the widest aligned block that is wholly free; 0 when there is none. */
  readonly gap: number;
}

type Rule = (a: boolean, b: boolean) => boolean;

const universe = 2 ** 32;

function countOf(tree: Tree, width: number): number {
  return typeof tree === "object" ? tree.count : tree ? width : 0;
}

function gapOf(tree: Tree, width: number): number {
  return typeof tree === "object" ? tree.gap : tree ? 0 : width;
}

/** The tree of `width` addresses with these halves; a leaf where they are the same leaf. */
function join(low: Tree, high: Tree, width: number): Tree {
  if (typeof low === "boolean" && low === high) return low;
  const half = width / 2;
  return {
    low,
    high,
    count: countOf(low, half) + countOf(high, half),
    gap: Math.max(gapOf(low, half), gapOf(high, half)),
  };
}

function fill(tree: Tree, base: Address, width: number, range: AddressRange, value: boolean): Tree {
  if (tree === value || range.last < base || range.first >= base + width) return tree;
  if (range.first <= base && range.last >= base + width - 1) return value;
  const half = width / 2;
  const { low, high } = typeof tree === "object" ? tree : { low: tree, high: tree };
  const newLow = fill(low, base, half, range, value);
  const newHigh = fill(high, base + half, half, range, value);
  return newLow === low && newHigh === high ? tree : join(newLow, newHigh, width);
}

function countWithin(tree: Tree, base: Address, width: number, range: AddressRange): number {
  const first = Math.max(range.first, base);
  const last = Math.min(range.last, base + width - 1);
  if (tree === false || first > last) return 0;
  if (tree === true) return last - first + 1;
  if (last - first + 1 === width) return tree.count;
  const half = width / 2;
  return countWithin(tree.low, base, half, range) + countWithin(tree.high, base + half, half, range);
}

/**
 * Base of the lowest free aligned block of `size` addresses. A subtree that lies wholly inside the range answers
 * for itself by its gap; only the two at the range's ends can be entered in vain.
 */
function firstFree(
  tree: Tree,
  base: Address,
  width: number,
  range: AddressRange,
  size: number,
): Address | undefined {
  if (gapOf(tree, width) < size) return undefined;
  if (tree === false) {
    const candidate = Math.ceil(Math.max(range.first, base) / size) * size;
    return candidate + size - 1 <= Math.min(range.last, base + width - 1) ? candidate : undefined;
  }
  if (typeof tree === "boolean" || range.last < base || range.first >= base + width) return undefined;
  const half = width / 2;
  return firstFree(tree.low, base, half, range, size) ?? firstFree(tree.high, base + half, half, range, size);
}

function combine(a: Tree, b: Tree, width: number, rule: Rule): Tree {
  if (typeof a === "boolean") {
    if (typeof b === "boolean") return rule(a, b);
    const whenOut = rule(a, false);
    const whenIn = rule(a, true);
    if (whenOut === whenIn) return whenIn;
    if (whenIn) return b;
  } else if (typeof b === "boolean") {
    const whenOut = rule(false, b);
    const whenIn = rule(true, b);
    if (whenOut === whenIn) return whenIn;
    if (whenIn) return a;
  }
  const half = width / 2;
  const left = typeof a === "object" ? a : { low: a, high: a };
  const right = typeof b === "object" ? b : { low: b, high: b };
  return join(combine(left.low, right.low, half, rule), combine(left.high, right.high, half, rule), width);
}

function* leaves(tree: Tree, base: Address, prefix: number): Generator<Cidr, void, void> {
  if (tree === true) yield { base, prefix };
  if (typeof tree === "boolean") return;
  yield* leaves(tree.low, base, prefix + 1);
  yield* leaves(tree.high, base + sizeOf(prefix + 1), prefix + 1);
}
