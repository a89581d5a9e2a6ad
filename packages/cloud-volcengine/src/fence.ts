import {
  AuthError,
  CocoonError,
  describeError,
  type FenceResult,
  type NodeResources,
} from "@cocoon-net/core";
import { detachEni, type Steps } from "./eni-changes.ts";
import { describeInstance } from "./instance-state.ts";
import { readNodeEnis } from "./node-enis.ts";
import { whyNotOurs } from "./ownership.ts";
import { waitForEnis } from "./reads.ts";
import type { Eni } from "./wire.ts";

/**
 * Detaches the node's ENIs and reads back who holds addresses of its subnet. An ENI that is attached to
 * another instance than the node's is not touched; it only keeps the fence from being verified.
 */
export async function fence(steps: Steps, target: NodeResources): Promise<FenceResult> {
  const { api, signal, progress } = steps;
  const before = await readNodeEnis(api, target, signal);
  const toDetach = before.enis.filter((eni) => isNodes(eni, target));
  const troubles = await detachAll(steps, toDetach);

  const instance = target.instanceID;
  const state = instance === undefined ? "unknown" : await describeInstance(api, instance, signal, progress);
  const after = await readNodeEnis(api, target, signal);
  const holders = after.enis.filter((eni) => eni.instanceID !== undefined);
  const who = instance === undefined ? "no instance on record" : `instance ${instance} is ${state}`;

  const place = after.subnets.map((subnet) => subnet.subnetID).join(", ");
  if (after.doubt !== undefined) {
    // A node without a subnet at the cloud: nothing there holds its addresses once the instance is gone (G5). A
    // recorded subnet that is not to be seen says nothing, nor does a list that does not add up (G8).
    const never = after.subnets.length === 0 && target.subnetID === undefined && holders.length === 0;
    return { verified: never && state === "gone", evidence: [who, after.doubt, ...troubles].join("; ") };
  }
  if (holders.length === 0) {
    // G5: asked after the detach, the cloud shows the subnet, and no instance holding any of its addresses.
    return {
      verified: true,
      evidence: `${who}; none of the ${after.enis.length} ENIs in ${place} is attached`,
    };
  }
  const held = holders.map((eni) => `${eni.eniID} is ${eni.status} on ${eni.instanceID}`);
  return { verified: false, evidence: [who, ...held, ...troubles].join("; ") };
}

/** A secondary ENI that the node, and nobody else, is known to use. */
function isNodes(eni: Eni, target: NodeResources): boolean {
  if (eni.instanceID === undefined || eni.type !== "secondary" || eni.serviceManaged) return false;
  if (target.instanceID !== undefined && eni.instanceID !== target.instanceID) return false;
  return target.eniIDs.includes(eni.eniID) || whyNotOurs(eni, target) === undefined;
}

/** Asks for all, then waits for all. Returns what went wrong: the read-back decides, not this. */
export async function detachAll(steps: Steps, enis: readonly Eni[]): Promise<string[]> {
  const { api, signal, progress } = steps;
  const troubles: string[] = [];
  const asked: string[] = [];
  for (const eni of enis) {
    if (eni.instanceID === undefined) continue;
    progress(`detaching ${eni.eniID} from ${eni.instanceID}`);
    try {
      await detachEni(steps, eni, eni.instanceID);
      asked.push(eni.eniID);
    } catch (error) {
      if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
      troubles.push(describeError(error));
    }
  }
  await waitForEnis(api, asked, (eni) => eni?.instanceID === undefined, signal);
  return troubles;
}
