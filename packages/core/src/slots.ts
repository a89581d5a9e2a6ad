import { hash } from "node:crypto";
import { AddressSet } from "./address-set.ts";
import { contains, overlaps, split } from "./cidr.ts";
import { InvalidError } from "./errors.ts";
import { blockOf, type Cidr, formatCidr, sizeOf } from "./ipv4.ts";

/**
 * Slots: the aligned blocks of the cluster's node prefix inside the parent CIDR. A subnet owns whole slots, so
 * two subnets of different prefix lengths can only overlap where they share a slot (G1). A reserved block closes
 * every slot that it touches.
 */

/** The part of the cluster's config, parsed, that slots depend on. */
export interface SlotLayout {
  readonly parent: Cidr;
  readonly nodePrefix: number;
  readonly reserved: readonly Cidr[];
}

/** Every slot that the subnet touches, ascending: one where the subnet is no wider than a slot. */
export function slotsOf(subnet: Cidr, nodePrefix: number): Cidr[] {
  return [...split(roundUp(subnet, nodePrefix), nodePrefix)];
}

/** Which slots of a parent CIDR are free. What a method costs does not depend on how many are taken. */
export class SlotTable {
  /** Slots that a node could be given: all of the parent less the reserved ones. */
  readonly total: number;
  readonly #parent: Cidr;
  readonly #nodePrefix: number;
  readonly #reserved: AddressSet;
  /** Always whole slots. */
  readonly #used: AddressSet;

  /** @throws {InvalidError} when a slot is wider than the parent. */
  constructor(parent: Cidr, nodePrefix: number, reserved: readonly Cidr[]) {
    requireSlots(parent, nodePrefix);
    this.#parent = parent;
    this.#nodePrefix = nodePrefix;
    this.#reserved = new AddressSet(reserved.map((block) => roundUp(block, nodePrefix)));
    this.#used = this.#reserved.clone();
    this.total = this.free;
  }

  get free(): number {
    const addresses = sizeOf(this.#parent.prefix) - this.#used.count(this.#parent);
    return addresses / sizeOf(this.#nodePrefix);
  }

  /** Marks a slot as owned. A block of another size takes every slot it touches; outside the parent, none. */
  take(slot: Cidr): void {
    this.#used.add(roundUp(slot, this.#nodePrefix));
  }

  /** Takes back a {@link take}. A reserved slot stays closed. */
  release(slot: Cidr): void {
    const freed = new AddressSet([roundUp(slot, this.#nodePrefix)]).subtract(this.#reserved);
    for (const block of freed.blocks()) this.#used.remove(block);
  }

  /** Whether every slot that the block touches is inside the parent, not reserved and not taken. */
  isFree(slot: Cidr): boolean {
    return contains(this.#parent, slot) && !this.#used.overlaps(slot);
  }

  lowestFree(): Cidr | undefined {
    return this.#used.lowestFreeBlock(this.#parent, this.#nodePrefix);
  }
}

/**
 * Every slot of the parent once, in an order that the node's name alone decides, so that nodes which start at the same
 * moment try different ones. A slot may be taken or reserved.
 * @throws {InvalidError} when a slot is wider than the parent.
 */
export function candidateSlots(
  { parent, nodePrefix }: Pick<SlotLayout, "parent" | "nodePrefix">,
  node: string,
): Generator<Cidr, void, void> {
  requireSlots(parent, nodePrefix);
  return slotsByHash(parent, nodePrefix, hash("sha256", node, "buffer"));
}

function* slotsByHash(parent: Cidr, prefix: number, digest: Buffer): Generator<Cidr, void, void> {
  const count = 2 ** (prefix - parent.prefix);
  const start = digest.readUInt32BE(0);
  // The count of slots is a power of two: an odd step visits them all, and arithmetic modulo 2^32 is exact.
  const step = digest.readUInt32BE(4) | 1;
  for (let attempt = 0; attempt < count; attempt++) {
    const index = ((start + Math.imul(step, attempt)) >>> 0) % count;
    yield { base: parent.base + index * sizeOf(prefix), prefix };
  }
}

/** @throws {InvalidError} when a node cannot have this subnet: outside the parent, or in a reserved slot. */
export function checkSubnet(subnet: Cidr, config: SlotLayout): void {
  const { parent, nodePrefix, reserved } = config;
  if (!contains(parent, subnet)) {
    throw new InvalidError(`subnet ${formatCidr(subnet)} is outside the parent CIDR ${formatCidr(parent)}`, {
      hint: "choose a block inside the parent, or leave the subnet out to get the next free one",
    });
  }
  const owned = roundUp(subnet, nodePrefix);
  const block = reserved.find((candidate) => overlaps(candidate, owned));
  if (block === undefined) return;
  const slot = owned === subnet ? "" : ` (slot ${formatCidr(owned)})`;
  throw new InvalidError(
    `subnet ${formatCidr(subnet)}${slot} overlaps the reserved block ${formatCidr(block)}`,
    { hint: "choose a block that touches nothing reserved, or leave the subnet out" },
  );
}

/** The block itself where it is made of whole slots, else the slot that it lies in. */
function roundUp(block: Cidr, nodePrefix: number): Cidr {
  return block.prefix <= nodePrefix ? block : blockOf(block.base, nodePrefix);
}

function requireSlots(parent: Cidr, nodePrefix: number): void {
  if (nodePrefix >= parent.prefix && nodePrefix <= 32) return;
  throw new InvalidError(
    `a node prefix of /${nodePrefix} does not fit the parent CIDR ${formatCidr(parent)}; it must be ${parent.prefix}–32`,
  );
}
