import {
  AddressSet,
  AuthError,
  type Cidr,
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
import { describeInstance, stateOf } from "./instance-state.ts";
import { blocksOf, singles } from "./node-addresses.ts";
import { type Instance, parseSubnetworkRef } from "./wire.ts";

/**
 * Takes the node's aliases off its instance, those of addresses that were moved to it included, and reads back who
 * holds any of them. Another instance is not touched, not even one of the same name; it only keeps the fence from being
 * verified, unless all that it has of the node's is what was moved there on purpose.
 */
export async function fence(steps: Steps, target: NodeResources): Promise<FenceResult> {
  const { api } = steps;
  const instanceID = target.instanceID ?? "";
  const ref = parseInstanceRef(instanceID);
  const subnetwork = parseSubnetworkRef(target.subnetID ?? "");
  const project = ref?.project ?? subnetwork?.project;
  if (project === undefined) {
    return { verified: false, evidence: `${target.node} has no Compute Engine instance on record` };
  }
  const blocks = blocksOf(target);
  const { state, trouble } =
    ref === undefined ? { state: "unknown" as const, trouble: [] } : await unbindAndTell(steps, ref, blocks);

  const who = ref === undefined ? "no instance on record" : `instance ${instanceID} is ${state}`;
  const instances = await api.listInstances(project);
  const addresses = new AddressSet(blocks).subtract(new AddressSet(singles(target.movedAway ?? [])));
  const holders = holdersOf(project, instances, addresses, subnetwork);
  if (holders.length > 0) {
    const held = holders.map(({ evidence }) => evidence);
    return { verified: false, evidence: [who, ...held, ...trouble].join("; ") };
  }
  const doubt = doubtAbout(instances, ref, state);
  if (doubt !== undefined || trouble.length > 0) {
    const reasons = doubt === undefined ? trouble : [doubt, ...trouble];
    return { verified: false, evidence: [who, ...reasons].join("; ") };
  }
  const moved = blocks.length > 1 ? ` or for ${(target.movedIn ?? []).join(", ")}` : "";
  const but = target.movedAway?.length ? `, but for what was moved away: ${target.movedAway.join(", ")}` : "";
  // G5: asked after the change, the cloud shows every instance of the project, and no alias with the node's addresses.
  return {
    verified: true,
    evidence:
      `${who}; none of the ${instances.length} instances of ${project} ` +
      `has an alias in ${target.subnet}${moved}${but}`,
  };
}

async function unbindAndTell(
  steps: Steps,
  ref: InstanceRef,
  blocks: readonly Cidr[],
): Promise<{ readonly state: InstanceState; readonly trouble: readonly string[] }> {
  const { after, trouble } = await unbind(steps, ref, blocks);
  const state = after === "unknown" ? await describeInstance(steps, ref) : stateOf(after);
  return { state, trouble };
}

export interface Unbound {
  /** Undefined when it is gone. */
  readonly before: Instance | undefined;
  /** `unknown` when something went wrong: the caller reads back, and does not take a failed removal for done. */
  readonly after: Instance | undefined | "unknown";
  readonly trouble: readonly string[];
}

/** Takes aliases that lie in the blocks off the instance. */
export async function unbind(steps: Steps, ref: InstanceRef, blocks: readonly Cidr[]): Promise<Unbound> {
  let before: Instance | undefined;
  try {
    await settle(steps, [ref]);
    before = await steps.api.getInstance(ref);
    if (before === undefined) return { before, after: undefined, trouble: [] };
    const after = await changeAliases(steps, ref, () => unbindGoal(blocks), before);
    return { before, after, trouble: [] };
  } catch (error) {
    if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
    return { before, after: "unknown", trouble: [describeError(error)] };
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
