import { contains, parseCidr } from "@cocoon-net/core";
import type { AliasRange } from "./wire.ts";

/** Secondary range, shared by all nodes of a subnetwork, that node blocks are taken from. */
export const podRange = "cocoon-pods";

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
  const missing = goal.add.filter((alias) => !current.some((held) => isSame(held, alias)));
  if (missing.length > 0) return { what: "add", changed: missing, list: [...current, ...missing] };
  return undefined;
}

/** The node's block, and nothing else of the pod range: also what an earlier block has left. */
export function bindGoal(block: string): AliasGoal {
  const wanted = { cidr: block, rangeName: podRange };
  return {
    drop: (alias) => alias.rangeName === podRange && !isSame(alias, wanted),
    add: [wanted],
  };
}

/** Nothing of the pod range inside the block. */
export function unbindGoal(block: string): AliasGoal {
  return { drop: (alias) => isOurs(alias, block), add: [] };
}

/** An alias that lies in the node's block; a larger one also delivers what is not the node's. */
export function isOurs(alias: AliasRange, block: string): boolean {
  return alias.rangeName === podRange && contains(parseCidr(block), parseCidr(alias.cidr));
}

export function isSame(a: AliasRange, b: AliasRange): boolean {
  return a.cidr === b.cidr && a.rangeName === b.rangeName;
}

/** `cocoon-pods:172.20.100.0/24`, as gcloud writes it. */
export function formatAlias({ cidr, rangeName }: AliasRange): string {
  return rangeName === undefined ? cidr : `${rangeName}:${cidr}`;
}
