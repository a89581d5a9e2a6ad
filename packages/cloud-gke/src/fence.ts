import {
  AuthError,
  CocoonError,
  describeError,
  type FenceResult,
  type InstanceState,
  type NodeResources,
} from "@cocoon-net/core";
import { changeAliases, settle } from "./alias-change.ts";
import { unbindGoal } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { holdersOf } from "./holders.ts";
import { type InstanceRef, parseInstanceRef } from "./instance-ref.ts";
import { describeInstance } from "./instance-state.ts";
import { type Instance, parseSubnetworkRef } from "./wire.ts";

/**
 * Takes the node's aliases off its instance and reads back who holds addresses of its block. Another instance is not
 * touched, not even one of the same name; it only keeps the fence from being verified.
 */
export async function fence(steps: Steps, target: NodeResources): Promise<FenceResult> {
  const { api, signal, progress } = steps;
  const instanceID = target.instanceID ?? "";
  const ref = parseInstanceRef(instanceID);
  const subnetwork = parseSubnetworkRef(target.subnetID ?? "");
  const project = ref?.project ?? subnetwork?.project;
  if (project === undefined) {
    return { verified: false, evidence: `${target.node} has no Compute Engine instance on record` };
  }
  const trouble = ref === undefined ? [] : await unbind(steps, ref, target.subnet);

  const state = await describeInstance(api, instanceID, signal, progress);
  const who = ref === undefined ? "no instance on record" : `instance ${instanceID} is ${state}`;
  const instances = await api.listInstances(project, signal);
  const holders = holdersOf(project, instances, target.subnet, subnetwork);
  if (holders.length > 0) {
    const held = holders.map(({ evidence }) => evidence);
    return { verified: false, evidence: [who, ...held, ...trouble].join("; ") };
  }
  const doubt = doubtAbout(instances, ref, state);
  if (doubt !== undefined || trouble.length > 0) {
    return {
      verified: false,
      evidence: [who, ...(doubt === undefined ? [] : [doubt]), ...trouble].join("; "),
    };
  }
  // G5: asked after the change, the cloud shows every instance of the project, and no alias with the node's addresses.
  return {
    verified: true,
    evidence: `${who}; none of the ${instances.length} instances of ${project} has an alias in ${target.subnet}`,
  };
}

/** Returns what went wrong: the read-back decides, and does not take a failed removal for done. */
export async function unbind(steps: Steps, ref: InstanceRef, block: string): Promise<string[]> {
  try {
    await settle(steps, ref);
    await changeAliases(steps, ref, unbindGoal(block));
    return [];
  } catch (error) {
    if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
    return [describeError(error)];
  }
}

/** Why a list that shows no holder cannot be taken for all there is (G8). */
function doubtAbout(
  instances: readonly Instance[],
  ref: InstanceRef | undefined,
  state: InstanceState,
): string | undefined {
  if (state === "unknown" && ref !== undefined) return "what became of the instance is not clear";
  const exists = state === "running" || state === "stopped";
  if (exists && !instances.some(({ id }) => id === ref?.id)) {
    return "the list of instances does not show it";
  }
  // Deleting an instance frees its aliases; without one, the list is the only witness.
  if (ref === undefined && instances.length === 0) return "the list of instances is empty";
  return undefined;
}
