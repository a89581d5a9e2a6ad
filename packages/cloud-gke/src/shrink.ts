import { contains, type NodeNetwork, type NodeResources, parseCidr } from "@cocoon-net/core";
import { changeAliases, settle } from "./alias-change.ts";
import { unbindGoal } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { networkOf, singles } from "./node-addresses.ts";
import { instanceRefOf, missing } from "./provision.ts";

/** Takes single addresses that were moved here. The node's own block is one alias, and stays whole. */
export async function shrink(
  steps: Steps,
  target: NodeResources,
  addresses: readonly string[],
): Promise<NodeNetwork> {
  const ref = instanceRefOf(target.instanceID ?? "");
  const own = parseCidr(target.subnet, "subnet");
  const moved = singles(addresses).filter((address) => !contains(own, address));
  if (moved.length > 0) await settle(steps, [ref]);
  const instance = await changeAliases(steps, ref, () => unbindGoal(moved));
  if (instance === undefined) throw missing(ref);
  return networkOf(instance, target);
}
