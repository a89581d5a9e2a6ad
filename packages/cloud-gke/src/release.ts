import type { NodeResources, ReleaseResult } from "@cocoon-net/core";
import { firstNic } from "./alias-change.ts";
import { formatAlias, isOurs } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { unbind } from "./fence.ts";
import { parseInstanceRef } from "./instance-ref.ts";
import { blocksOf } from "./node-addresses.ts";
import type { Instance } from "./wire.ts";

/**
 * Takes the node's aliases off its instance, if that still exists. Nothing else was made for the node alone: the
 * secondary ranges are every node's, and stay.
 */
export async function release(steps: Steps, target: NodeResources): Promise<ReleaseResult> {
  const ref = parseInstanceRef(target.instanceID ?? "");
  if (ref === undefined) {
    steps.progress(`${target.node} has no Compute Engine instance on record, so nothing of it can be found`);
    return { released: [], remaining: [] };
  }
  const blocks = blocksOf(target);
  const { before, after, trouble } = await unbind(steps, ref, blocks);
  const has = after === "unknown" ? await steps.api.getInstance(ref) : after;
  const idsOf = (instance: Instance | undefined) =>
    (instance === undefined ? [] : firstNic(instance).aliases)
      .filter((alias) => isOurs(alias, blocks))
      .map((alias) => aliasID(formatAlias(alias), ref.name));
  const left = idsOf(has);
  steps.progress("keeping the secondary range, which all nodes of the subnet share");
  return {
    released: idsOf(before).filter((id) => !left.includes(id)),
    remaining: left.map((id) => ({ id, reason: trouble.join("; ") || "it is still there" })),
  };
}

/** `cocoon-pods:172.20.100.0/24@node-1` */
export function aliasID(alias: string, instanceName: string): string {
  return `${alias}@${instanceName}`;
}
