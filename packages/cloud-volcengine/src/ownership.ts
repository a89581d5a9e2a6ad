import type { NodeResources, ProvisionRequest } from "@cocoon-net/core";
import type { Eni, Subnet, Tags } from "./wire.ts";

/** What we tag, and what follows from a tag. Only ENIs that these rules call ours are ever deleted (G11). */

export const clusterTag = "cocoon-net:cluster";
const nodeTag = "cocoon-net:node";
/** The instance is the node's identity: names come back, instance ids do not (G12). */
export const instanceTag = "cocoon-net:instance";
const jobTag = "cocoon-net:job";

export function eniTags(request: ProvisionRequest, jobID: string): Tags {
  return {
    ...request.tags,
    [nodeTag]: request.node,
    [instanceTag]: request.instance.instanceID,
    [jobTag]: jobID,
  };
}

/** A subnet outlives its node, for the next one that gets the block: it carries the cluster's tags only. */
export function subnetTags(request: ProvisionRequest): Tags {
  const ofOneNode = new Set([nodeTag, instanceTag, jobTag]);
  return Object.fromEntries(Object.entries(request.tags).filter(([key]) => !ofOneNode.has(key)));
}

export function subnetName(node: string): string {
  return `${node.slice(0, 120)}-vms`;
}

export function eniName(node: string, number: number): string {
  return `${node.slice(0, 110)}-eni-${number}`;
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
  const instance = eni.tags[instanceTag];
  if (instance === undefined) {
    return `it carries no ${instanceTag} tag; delete it by hand if it is not needed`;
  }
  if (target.instanceID === undefined) {
    return eni.tags[nodeTag] === target.node ? undefined : `it belongs to the node ${eni.tags[nodeTag]}`;
  }
  return instance === target.instanceID ? undefined : `it belongs to the instance ${instance}`;
}
