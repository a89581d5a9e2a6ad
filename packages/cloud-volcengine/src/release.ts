import {
  AuthError,
  CocoonError,
  describeError,
  type NodeResources,
  type ReleaseResult,
} from "@cocoon-net/core";
import type { ChangeWait } from "./change-wait.ts";
import { deleteEni } from "./eni-changes.ts";
import { tagEnis } from "./eni-requests.ts";
import { detachAll } from "./fence.ts";
import { describeInstance } from "./instance-state.ts";
import { type NodeEnis, NodeView } from "./node-enis.ts";
import { useOf, useTags, whyNotOurs } from "./ownership.ts";
import { waitForEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import { type Eni, isChanging } from "./wire.ts";

/**
 * Detaches the node's ENIs and deletes them, but for those that are kept warm. Only tagged ones are touched (G11);
 * recorded ones that are not ours are reported. The VPC subnet stays: the next node that gets the block uses it.
 */
export async function release(steps: Steps, target: NodeResources): Promise<ReleaseResult> {
  const { api, progress } = steps;
  const view = new NodeView(api, target);
  const found = await view.look();
  const remaining = new Map<string, string>();
  const ours = new Map<string, Eni>();
  for (const eni of found.enis) {
    const notOurs = whyNotOurs(eni, target);
    const elsewhere = attachedElsewhere(eni, target);
    if (notOurs !== undefined) {
      if (target.eniIDs.includes(eni.eniID)) remaining.set(eni.eniID, notOurs);
    } else if (elsewhere !== undefined) remaining.set(eni.eniID, elsewhere);
    else ours.set(eni.eniID, eni);
  }
  const released = new Set<string>();
  // Recorded, but not to be seen: gone, unless there is reason not to trust what is shown (G8).
  const doubt = found.vanished.length > 0 ? await doubtAbout(steps, view, found, target) : undefined;
  for (const id of found.vanished) {
    if (doubt === undefined) released.add(id);
    else remaining.set(id, `whether it is gone cannot be told: ${doubt}`);
  }

  for (const [id, reason] of await freeAll(steps, ours)) progress(`${id}: ${reason}`);
  const warm = await keepWarm(steps, target, found, [...ours.values()]);
  const reasons = new Map<string, string>();
  const deletion = api.changes("delete");
  for (const eni of ours.values()) {
    if (warm.has(eni.eniID)) continue;
    progress(`deleting ${eni.eniID}`);
    try {
      if (await deleteEni(steps, eni)) deletion.asked();
    } catch (error) {
      if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
      reasons.set(eni.eniID, describeError(error));
    }
  }
  const deleting = [...ours.keys()].filter((id) => !warm.has(id) && !reasons.has(id));
  const left = await waitForEnis(api, deleting, (eni) => eni === undefined, deletion);
  for (const id of deleting) {
    const eni = left.get(id);
    if (eni === undefined) released.add(id);
    else remaining.set(id, `it is still ${eni.status}`);
  }
  for (const [id, reason] of reasons) remaining.set(id, reason);
  for (const subnetID of found.subnetIDs) {
    progress(`keeping the subnet ${subnetID} (${target.subnet}) for the next node that gets the block`);
  }
  return {
    released: [...released],
    ...(warm.size > 0 ? { warm: [...warm] } : {}),
    remaining: [...remaining].map(([id, reason]) => ({ id, reason })),
  };
}

/** Detaches all, and brings `ours` up to date. Returns what went wrong. */
async function freeAll(steps: Steps, ours: Map<string, Eni>): Promise<ReadonlyMap<string, string>> {
  const update = async (
    ids: readonly string[],
    settled: (eni: Eni | undefined) => boolean,
    change?: ChangeWait,
  ): Promise<void> => {
    const now = await waitForEnis(steps.api, ids, settled, change);
    for (const id of ids) {
      const eni = now.get(id);
      // What has gone meanwhile is still deleted: that finds it gone.
      if (eni !== undefined) ours.set(id, eni);
    }
  };
  // What is still coming up would refuse to be detached or deleted.
  const changing = [...ours.values()].filter(isChanging).map((eni) => eni.eniID);
  await update(changing, (eni) => eni === undefined || !isChanging(eni));
  const attached = [...ours.values()].filter((eni) => eni.instanceID !== undefined);
  const detaching = steps.api.changes("detach");
  const troubles = await detachAll(steps, attached, detaching);
  const asked = attached.map((eni) => eni.eniID).filter((id) => !troubles.has(id));
  await update(asked, (eni) => eni?.instanceID === undefined, detaching);
  return troubles;
}

/** Marks as many as shall be kept. Ids of all that are warm then. */
async function keepWarm(
  steps: Steps,
  target: NodeResources,
  { subnetIDs }: NodeEnis,
  ours: readonly Eni[],
): Promise<ReadonlySet<string>> {
  const fit = ours.filter(
    (eni) =>
      eni.status === "Available" &&
      subnetIDs.includes(eni.subnetID) &&
      useOf(eni) !== "moved" &&
      eni.secondaryAddresses.length > 0,
  );
  // A run before this one may have marked some; then the fullest.
  const isWarm = (eni: Eni): number => (useOf(eni) === "warm" ? 1 : 0);
  fit.sort((a, b) => isWarm(b) - isWarm(a) || b.secondaryAddresses.length - a.secondaryAddresses.length);
  const kept = fit.slice(0, target.keepWarm ?? 0);
  const unmarked = kept.filter((eni) => isWarm(eni) === 0).map((eni) => eni.eniID);
  if (unmarked.length > 0) await tagEnis(steps, unmarked, useTags("warm"));
  for (const eni of kept) {
    steps.progress(`keeping ${eni.eniID} warm, with ${eni.secondaryAddresses.length} addresses`);
  }
  return new Set(kept.map((eni) => eni.eniID));
}

/** Somebody has attached it to another instance since: not a thing to undo on the quiet. */
function attachedElsewhere(eni: Eni, target: NodeResources): string | undefined {
  const elsewhere =
    target.instanceID !== undefined && eni.instanceID !== undefined && eni.instanceID !== target.instanceID;
  return elsewhere ? `it is attached to ${eni.instanceID}` : undefined;
}

/** A missing subnet is believed when the access key can see the node's instance: it is the right account. */
async function doubtAbout(
  { api, progress }: Steps,
  view: NodeView,
  found: NodeEnis,
  target: NodeResources,
): Promise<string | undefined> {
  const { doubt, subnets } = await view.witness(found);
  if (doubt === undefined || subnets.length > 0 || target.instanceID === undefined) return doubt;
  const state = await describeInstance(api, target.instanceID, progress);
  return state === "running" || state === "stopped" ? undefined : doubt;
}
