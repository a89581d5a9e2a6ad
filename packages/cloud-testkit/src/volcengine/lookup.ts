import type { VolcengineAccount } from "./account.ts";
import { refuse } from "./api-fault.ts";
import type { VolcengineBehaviour } from "./behaviour.ts";
import type { SimulatedEni, SimulatedInstance, SimulatedSubnet } from "./state.ts";

/** @throws InvalidEniId.NotFound: `EniId`, not `Eni` (facts §2.13). */
export function findEni(account: VolcengineAccount, eniID: string): SimulatedEni {
  const eni = account.enis.get(eniID);
  if (eni === undefined) throw refuse("InvalidEniId.NotFound", `The ENI ${eniID} does not exist.`);
  return eni;
}

/** @throws InvalidInstance.NotFound (the code is not in the facts). */
export function findInstance(account: VolcengineAccount, instanceID: string): SimulatedInstance {
  const instance = account.instances.get(instanceID);
  if (instance === undefined) throw refuse("InvalidInstance.NotFound", `No instance ${instanceID}.`);
  return instance;
}

/** @throws InvalidSubnet.NotFound (facts §2.8). */
export function findSubnet(account: VolcengineAccount, subnetID: string): SimulatedSubnet {
  const subnet = account.subnets.get(subnetID);
  if (subnet === undefined) throw refuse("InvalidSubnet.NotFound", `The subnet ${subnetID} does not exist.`);
  return subnet;
}

/** @throws InvalidVpc.NotFound, and InvalidVpc.InvalidStatus while a subnet is being made in it (facts §2.8). */
export function requireAvailableVpc(account: VolcengineAccount, vpcID: string): void {
  const vpc = account.vpcs.get(vpcID);
  if (vpc === undefined) throw refuse("InvalidVpc.NotFound", `The VPC ${vpcID} does not exist.`);
  if (vpc.status !== "Available") throw refuse("InvalidVpc.InvalidStatus", `${vpcID} is ${vpc.status}.`);
}

/** For what changes something in the VPC, but makes nothing in it (see {@link VolcengineBehaviour.pendingVpc}). */
export function requireWritableVpc(account: VolcengineAccount, vpcID: string): void {
  if (account.behaviour.pendingVpc === "writes") requireAvailableVpc(account, vpcID);
}

/** A subnet that ENIs and addresses can be made in. */
export function availableSubnet(account: VolcengineAccount, subnetID: string): SimulatedSubnet {
  const subnet = findSubnet(account, subnetID);
  requireAvailableVpc(account, subnet.vpcID);
  if (subnet.status === "Available") return subnet;
  throw refuse("InvalidSubnet.InvalidStatus", `${subnetID} is ${subnet.status}.`);
}

export function attachedEnis(account: VolcengineAccount, instanceID: string): SimulatedEni[] {
  return [...account.enis.values()].filter((eni) => eni.instanceID === instanceID);
}
