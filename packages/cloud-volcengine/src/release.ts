import {
  AuthError,
  CocoonError,
  describeError,
  type NodeResources,
  type ReleaseResult,
} from "@cocoon-net/core";
import { deleteEni, type Steps } from "./eni-changes.ts";
import { detachAll } from "./fence.ts";
import { describeInstance } from "./instance-state.ts";
import { type NodeEnis, readNodeEnis } from "./node-enis.ts";
import { whyNotOurs } from "./ownership.ts";
import { findEnis, waitForEnis } from "./reads.ts";
import { type Eni, isChanging } from "./wire.ts";

/**
 * Detaches and deletes the node's ENIs. Only tagged ones are touched (G11); recorded ones that are not ours
 * are reported. The VPC subnet stays: the next node that gets the block uses it.
 */
export async function release(steps: Steps, target: NodeResources): Promise<ReleaseResult> {
  const { api, signal, progress } = steps;
  const found = await readNodeEnis(api, target, signal);
  const released = new Set<string>();
  const remaining = new Map<string, string>();
  const ours: Eni[] = [];
  for (const eni of found.enis) {
    const notOurs = whyNotOurs(eni, target);
    const elsewhere = attachedElsewhere(eni, target);
    if (notOurs !== undefined) {
      if (target.eniIDs.includes(eni.eniID)) remaining.set(eni.eniID, notOurs);
    } else if (elsewhere !== undefined) remaining.set(eni.eniID, elsewhere);
    else ours.push(eni);
  }
  // Recorded, but not to be seen: gone, unless there is reason not to trust what is shown (G8).
  const doubt =
    found.doubt !== undefined && !(await seesInstance(steps, found, target)) ? found.doubt : undefined;
  for (const id of found.vanished) {
    if (doubt === undefined) released.add(id);
    else remaining.set(id, `whether it is gone cannot be told: ${doubt}`);
  }

  // What is still coming up would refuse to be detached or deleted.
  const ids = ours.map((eni) => eni.eniID);
  const steady = (eni: Eni | undefined) => eni === undefined || !isChanging(eni);
  const settled = await waitForEnis(api, ids, steady, signal);
  const troubles = await detachAll(steps, [...settled.values()]);
  for (const trouble of troubles) progress(trouble);

  const reasons = new Map<string, string>();
  for (const eni of (await findEnis(api, ids, signal)).values()) {
    progress(`deleting ${eni.eniID}`);
    try {
      await deleteEni(steps, eni);
    } catch (error) {
      if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
      reasons.set(eni.eniID, describeError(error));
    }
  }
  // A refused delete is not waited for; the read-back decides for all.
  const deleting = ids.filter((id) => !reasons.has(id));
  await waitForEnis(api, deleting, (eni) => eni === undefined, signal);
  const left = await findEnis(api, ids, signal);
  for (const id of ids) {
    const eni = left.get(id);
    if (eni === undefined) released.add(id);
    else remaining.set(id, reasons.get(id) ?? `it is still ${eni.status}`);
  }
  for (const subnet of found.subnets) {
    progress(`keeping the subnet ${subnet.subnetID} (${subnet.cidr}) for the next node that gets the block`);
  }
  return {
    released: [...released],
    remaining: [...remaining].map(([id, reason]) => ({ id, reason })),
  };
}

/** Somebody has attached it to another instance since: not a thing to undo on the quiet. */
function attachedElsewhere(eni: Eni, target: NodeResources): string | undefined {
  const elsewhere =
    target.instanceID !== undefined && eni.instanceID !== undefined && eni.instanceID !== target.instanceID;
  return elsewhere ? `it is attached to ${eni.instanceID}` : undefined;
}

/** A missing subnet is believed when the access key can see the node's instance: it is the right account. */
async function seesInstance(
  { api, signal, progress }: Steps,
  found: NodeEnis,
  target: NodeResources,
): Promise<boolean> {
  if (found.subnets.length > 0 || target.instanceID === undefined) return false;
  const state = await describeInstance(api, target.instanceID, signal, progress);
  return state === "running" || state === "stopped";
}
