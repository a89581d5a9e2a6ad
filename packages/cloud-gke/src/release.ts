import type { NodeResources, ReleaseResult } from "@cocoon-net/core";
import { firstNic } from "./alias-change.ts";
import { formatAlias, isOurs, podRange } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { unbind } from "./fence.ts";
import { parseInstanceRef } from "./instance-ref.ts";

/**
 * Takes the node's aliases off its instance, if that still exists. Nothing else was made for the node alone: the
 * secondary range is every node's, and stays.
 */
export async function release(steps: Steps, target: NodeResources): Promise<ReleaseResult> {
  const { api, signal, progress } = steps;
  const ref = parseInstanceRef(target.instanceID ?? "");
  if (ref === undefined) {
    progress(`${target.node} has no Compute Engine instance on record, so nothing of it can be found`);
    return { released: [], remaining: [] };
  }
  const before = await api.getInstance(ref, signal);
  const had = before === undefined ? [] : firstNic(before).aliases;
  const trouble = await unbind(steps, ref, target.subnet);
  const after = await api.getInstance(ref, signal);
  const has = after === undefined ? [] : firstNic(after).aliases;
  const idsOf = (aliases: typeof had) =>
    aliases
      .filter((alias) => isOurs(alias, target.subnet))
      .map((alias) => `${formatAlias(alias)}@${ref.name}`);
  const left = idsOf(has);
  progress(`keeping the secondary range ${podRange}, which all nodes of the subnet share`);
  return {
    released: idsOf(had).filter((id) => !left.includes(id)),
    remaining: left.map((id) => ({ id, reason: trouble.join("; ") || "it is still there" })),
  };
}
