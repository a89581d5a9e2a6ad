import {
  AuthError,
  CocoonError,
  describeError,
  type FenceResult,
  type InstanceState,
  type NodeResources,
} from "@cocoon-net/core";
import type { ChangeWait } from "./change-wait.ts";
import { detachEni } from "./eni-changes.ts";
import { describeInstance } from "./instance-state.ts";
import { NodeView } from "./node-enis.ts";
import { isTaggedFor, useOf, whyNotOurs } from "./ownership.ts";
import { listEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import { staleLooks } from "./timing.ts";
import type { Eni } from "./wire.ts";

/**
 * Detaches the node's ENIs and reads back who holds its addresses. An ENI that is attached to another instance than
 * the node's is not touched; it only keeps the fence from being verified, unless it is there on purpose.
 */
export async function fence(steps: Steps, target: NodeResources): Promise<FenceResult> {
  const { api, progress } = steps;
  const view = new NodeView(api, target);
  const detaching = api.changes("detach");
  /** ENIs that were asked to be detached, with the looks since that still showed them InUse. */
  const asked = new Map<string, number>();
  const troubles = new Map<string, string>();
  let seen = await view.look();
  for (;;) {
    const attached = seen.enis.filter((eni) => isNodes(eni, target));
    const fresh = attached.filter((eni) => isToBeAsked(eni, asked));
    for (const [eniID, trouble] of await detachAll(steps, fresh, detaching)) troubles.set(eniID, trouble);
    if (attached.length === 0) detaching.done();
    const waiting = attached.some(({ eniID }) => !troubles.has(eniID));
    if (!waiting || !(await detaching.next())) break;
    seen = await view.look();
  }

  const { movedIn = [] } = target;
  // An address that no ENI shows is looked for once more: one look may show too little (G8).
  if (!movedIn.every((address) => isHeld(address, seen.enis))) seen = await view.look();

  const { subnets, doubt } = await view.witness(seen);
  const instance = target.instanceID;
  const state = instance === undefined ? "unknown" : await describeInstance(api, instance, progress);
  const holders = seen.enis.filter(
    (eni) => eni.instanceID !== undefined && !isElsewhereOnPurpose(eni, target),
  );
  const who = instance === undefined ? "no instance on record" : `instance ${instance} is ${state}`;
  const place = seen.subnetIDs.join(", ");
  if (doubt !== undefined) {
    // A node without a subnet at the cloud: nothing there holds its addresses once the instance is gone (G5). A
    // recorded subnet that is not to be seen says nothing, nor does a list that does not add up (G8).
    const blind = target.subnetID !== undefined || movedIn.length > 0;
    const never = subnets.length === 0 && !blind && holders.length === 0;
    if (never && (await wasNeverMade(steps, target, state))) {
      return {
        verified: true,
        evidence: `${who}; the cloud has never said that it made ${target.subnet}, and has none`,
      };
    }
    return { verified: never && state === "gone", evidence: [who, doubt, ...troubles.values()].join("; ") };
  }
  if (holders.length === 0) {
    // G5: asked after the detach, the cloud shows the subnet, and no instance holding any of its addresses.
    return {
      verified: true,
      evidence: `${who}; none of the ${seen.enis.length} ENIs in ${place} is attached for it`,
    };
  }
  const held = holders.map((eni) => `${eni.eniID} is ${eni.status} on ${eni.instanceID}`);
  return { verified: false, evidence: [who, ...held, ...troubles.values()].join("; ") };
}

/**
 * Whether this job itself has it on record that the node's subnet was asked for, and refused or never answered: ENIs are
 * made only after the answer, so nothing of the node's can be in it, even if it comes into being yet. That the access
 * key sees the instance shows that it is asked about the right account (G8).
 */
async function wasNeverMade(
  { api, job }: Steps,
  target: NodeResources,
  state: InstanceState,
): Promise<boolean> {
  const { instanceID, subnet, eniIDs } = target;
  if (instanceID === undefined || eniIDs.length > 0 || (state !== "running" && state !== "stopped"))
    return false;
  const asked = job.last("CreateSubnet", subnet);
  if (asked === undefined || asked.phase === "done") return false;
  const enis = await listEnis(api, { InstanceId: instanceID });
  return !enis.some((eni) => isTaggedFor(eni, instanceID));
}

function isHeld(address: string, enis: readonly Eni[]): boolean {
  return enis.some((eni) => eni.secondaryAddresses.includes(address));
}

/** Not asked yet, or asked in vain. */
function isToBeAsked({ eniID, status }: Eni, asked: Map<string, number>): boolean {
  const looks = asked.get(eniID);
  if (looks === undefined || (status === "InUse" && looks >= staleLooks)) {
    asked.set(eniID, 0);
    return true;
  }
  if (status === "InUse") asked.set(eniID, looks + 1);
  return false;
}

/** A secondary ENI that the node, and nobody else, is known to use. */
function isNodes(eni: Eni, target: NodeResources): boolean {
  if (eni.instanceID === undefined || eni.type !== "secondary" || eni.serviceManaged) return false;
  if (target.instanceID !== undefined && eni.instanceID !== target.instanceID) return false;
  return target.eniIDs.includes(eni.eniID) || whyNotOurs(eni, target) === undefined;
}

/** Another node serves addresses of the subnet there that were moved to it, and nothing else. */
function isElsewhereOnPurpose(eni: Eni, target: NodeResources): boolean {
  const away = new Set(target.movedAway);
  const mark = useOf(eni) === "moved" || eni.secondaryAddresses.length > 0;
  return (
    mark &&
    eni.instanceID !== target.instanceID &&
    eni.secondaryAddresses.every((address) => away.has(address))
  );
}

/**
 * Asks for all; the caller waits, as `detaching` says. Returns what went wrong, by ENI: the read-back decides, not this.
 */
export async function detachAll(
  steps: Steps,
  enis: readonly Eni[],
  detaching: ChangeWait,
): Promise<ReadonlyMap<string, string>> {
  const troubles = new Map<string, string>();
  for (const eni of enis) {
    if (eni.instanceID === undefined) continue;
    steps.progress(`detaching ${eni.eniID} from ${eni.instanceID}`);
    try {
      if (await detachEni(steps, eni, eni.instanceID)) detaching.asked();
    } catch (error) {
      if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
      troubles.set(eni.eniID, describeError(error));
    }
  }
  return troubles;
}
