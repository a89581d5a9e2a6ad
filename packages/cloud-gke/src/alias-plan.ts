import {
  type AddressSet,
  blockOf,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  parseCidr,
} from "@cocoon-net/core";
import { isPodRange } from "./pod-range-names.ts";
import type { AliasRange } from "./wire.ts";

/** What the interface shall have of the aliases that are ours; all others stay as they are. */
export interface AliasGoal {
  /** Whether an alias is ours, and must go. */
  drop(alias: AliasRange): boolean;
  readonly add: readonly AliasRange[];
}

export interface AliasStep {
  readonly what: "remove" | "add";
  readonly changed: readonly AliasRange[];
  /** The complete list to ask for. */
  readonly list: readonly AliasRange[];
}

/**
 * The next request on the way to the goal; undefined when it is reached. Removals come first and alone: the API refuses
 * a request that both adds and removes.
 */
export function nextStep(current: readonly AliasRange[], goal: AliasGoal): AliasStep | undefined {
  const removed = current.filter((alias) => goal.drop(alias));
  const kept = current.filter((alias) => !goal.drop(alias));
  if (removed.length > 0) return { what: "remove", changed: removed, list: kept };
  const missing = missingOf(current, goal);
  if (missing.length > 0) return { what: "add", changed: missing, list: [...current, ...missing] };
  return undefined;
}

/** How many aliases the interface will have in the end. */
export function countAfter(current: readonly AliasRange[], goal: AliasGoal): number {
  return current.filter((alias) => !goal.drop(alias)).length + missingOf(current, goal).length;
}

function missingOf(current: readonly AliasRange[], { add }: AliasGoal): AliasRange[] {
  return add.filter((alias) => !current.some((held) => isSame(held, alias)));
}

/**
 * These addresses of the block beside those that are bound already, and nothing that an earlier block has left. Nothing
 * of the block is taken away, and neither are single addresses of other blocks: they were moved here.
 */
export function bindGoal(
  current: readonly AliasRange[],
  block: Cidr,
  rangeName: string,
  missing: AddressSet,
): AliasGoal {
  const outside = current.filter((alias) => isPodRange(alias.rangeName) && !isOurs(alias, [block]));
  const stale = outside.filter(({ cidr }) => parseCidr(cidr).prefix < 32);
  // A block from which an address was moved leaves single ones behind too.
  const slots = stale.map(({ cidr }) => {
    const { base, prefix } = parseCidr(cidr);
    return blockOf(base, Math.min(prefix, block.prefix));
  });
  return {
    drop: (alias) => outside.some((other) => isSame(other, alias)) && isOurs(alias, slots),
    add: aliasesOf(missing, rangeName),
  };
}

/** Exactly these addresses of the block, in as few aliases as there can be. */
export function shapeGoal(block: Cidr, rangeName: string, addresses: AddressSet): AliasGoal {
  const add = aliasesOf(addresses, rangeName);
  return {
    drop: (alias) => isOurs(alias, [block]) && !add.some((wanted) => isSame(wanted, alias)),
    add,
  };
}

/** Nothing of the pod ranges inside these blocks. */
export function unbindGoal(blocks: readonly Cidr[]): AliasGoal {
  return { drop: (alias) => isOurs(alias, blocks), add: [] };
}

/** An alias that lies in one of the blocks; a larger one also delivers what is not the node's. */
export function isOurs({ cidr, rangeName }: AliasRange, blocks: readonly Cidr[]): boolean {
  return isPodRange(rangeName) && blocks.some((block) => contains(block, parseCidr(cidr)));
}

function aliasesOf(addresses: AddressSet, rangeName: string): AliasRange[] {
  return [...addresses.blocks()].map((block) => ({ cidr: formatCidr(block), rangeName }));
}

export function isSame(a: AliasRange, b: AliasRange): boolean {
  return a.cidr === b.cidr && a.rangeName === b.rangeName;
}

/** `cocoon-pods:172.20.100.0/24`, as gcloud writes it. */
export function formatAlias({ cidr, rangeName }: AliasRange): string {
  return rangeName === undefined ? cidr : `${rangeName}:${cidr}`;
}

/** `10.0.0.7`, or `10.0.0.0/24` where it is more than one. */
export function formatBlock(block: Cidr): string {
  return block.prefix === 32 ? formatAddress(block.base) : formatCidr(block);
}
