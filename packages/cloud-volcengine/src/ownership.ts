import type { InstanceIdentity, NodeResources, ProvisionRequest } from "@cocoon-net/core";
import type { Eni, Subnet, Tags } from "./wire.ts";

/** What we tag, and what follows from a tag. Only ENIs that these rules call ours are ever deleted (G11). */

export const clusterTag = "cocoon-net:cluster";
export const nodeTag = "cocoon-net:node";
/** The instance is the node's identity: names come back, instance ids do not (G12). */
export const instanceTag = "cocoon-net:instance";
const jobTag = "cocoon-net:job";
/** Present on ENIs that are not, or no longer, a part of their node's pool. */
const useTag = "cocoon-net:use";

/** `moved`: of another node's subnet, for addresses that were moved here. `warm`: kept for the next node. */
export type EniUse = "pool" | "moved" | "warm";

/** For whom something is made. */
export interface Owner {
  readonly node: string;
  readonly instance: InstanceIdentity;
  readonly tags: Tags;
}

export function eniTags(owner: Owner, jobID: string, use?: EniUse): Tags {
  return {
    ...owner.tags,
    [nodeTag]: owner.node,
    [instanceTag]: owner.instance.instanceID,
    [jobTag]: jobID,
    ...(use === undefined ? {} : useTags(use)),
  };
}

export function isOfJob(tags: Tags, jobID: string): boolean {
  return tags[jobTag] === jobID;
}

export function useTags(use: EniUse): Tags {
  return { [useTag]: use };
}

export function useOf(eni: Pick<Eni, "tags">): EniUse {
  const use = eni.tags[useTag];
  return use === "moved" || use === "warm" ? use : "pool";
}

/** Left by an earlier node of the same cluster, with its addresses, for the next one of the subnet. */
export function isWarmFor(eni: Eni, tags: Tags): boolean {
  const free = eni.instanceID === undefined && eni.type === "secondary" && !eni.serviceManaged;
  return free && useOf(eni) === "warm" && eni.tags[clusterTag] === tags[clusterTag];
}

/** Of the same cluster, and attached to another instance on purpose. */
export function isMovedFor(eni: Eni, tags: Tags): boolean {
  return useOf(eni) === "moved" && eni.tags[clusterTag] === tags[clusterTag];
}

/** A subnet outlives its node, for the next one that gets the block: it carries the cluster's tags only. */
export function subnetTags(request: ProvisionRequest): Tags {
  const ofOneNode = new Set([nodeTag, instanceTag, jobTag, useTag]);
  return Object.fromEntries(Object.entries(request.tags).filter(([key]) => !ofOneNode.has(key)));
}

export function subnetName(node: string): string {
  return `${node.slice(0, 120)}-vms`;
}

export function eniName(node: string, number: number): string {
  return `${node.slice(0, 110)}-eni-${number}`;
}

/** An ENI for addresses of another node's subnet; not numbered, so that it is never taken for one of the pool. */
export function movedEniName(node: string): string {
  return `${node.slice(0, 110)}-moved`;
}

/** The number in an ENI's name; undefined when it was not named by {@link eniName} for that node. */
export function eniNumber(node: string, name: string): number | undefined {
  const number = Number(/-eni-(\d+)$/.exec(name)?.[1]);
  return eniName(node, number) === name ? number : undefined;
}

/** Why a subnet with the wanted CIDR is somebody else's; undefined when it may be used. */
export function subnetOwner(request: ProvisionRequest, subnet: Subnet): string | undefined {
  const cluster = subnet.tags[clusterTag];
  if (cluster !== undefined) {
    return cluster === request.tags[clusterTag] ? undefined : `the cluster ${cluster}`;
  }
  const node = /^(.+)-vms$/.exec(subnet.name)?.[1];
  const named = node !== undefined && subnet.name !== subnetName(request.node);
  return named ? `the node ${node}` : undefined;
}

export function isTaggedFor(eni: Eni, instanceID: string): boolean {
  return eni.tags[instanceTag] === instanceID;
}

/** An ENI that was made and named for this node before ENIs were tagged, and that is attached to it. */
export function isAdoptable(eni: Eni, request: ProvisionRequest): boolean {
  return (
    eni.tags[instanceTag] === undefined &&
    eni.type === "secondary" &&
    !eni.serviceManaged &&
    eni.instanceID === request.instance.instanceID &&
    eniNumber(request.node, eni.name) !== undefined
  );
}

/** Why an ENI must not be deleted as the node's; undefined when it is ours. */
export function whyNotOurs(eni: Eni, target: NodeResources): string | undefined {
  if (eni.type !== "secondary" || eni.serviceManaged) return "it is not a secondary ENI of the account";
  // Kept by an earlier node for whoever has the subnet; that has been the node.
  if (useOf(eni) === "warm" && eni.subnetID === target.subnetID && eni.instanceID === undefined) {
    return undefined;
  }
  const instance = eni.tags[instanceTag];
  if (instance === undefined) {
    return `it carries no ${instanceTag} tag; delete it by hand if it is not needed`;
  }
  if (target.instanceID === undefined) {
    return eni.tags[nodeTag] === target.node ? undefined : `it belongs to the node ${eni.tags[nodeTag]}`;
  }
  return instance === target.instanceID ? undefined : `it belongs to the instance ${instance}`;
}
