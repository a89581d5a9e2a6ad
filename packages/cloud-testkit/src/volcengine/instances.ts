import {
  blockOf,
  contains,
  formatAddress,
  formatCidr,
  InvalidError,
  NotFoundError,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import type { VolcengineAccount } from "./account.ts";
import { newEni, startDetach } from "./eni-actions.ts";
import { attachedEnis } from "./lookup.ts";
import type { InstanceStatus, SimulatedInstance, SimulatedSubnet, SimulatedVpc } from "./state.ts";

export interface AddInstanceOptions {
  /** Default: the next free id, `i-sim00001`. */
  readonly instanceID?: string;
  /** Default: the first zone of the simulator. */
  readonly zone?: string;
  /** Address of the primary ENI; a /24 subnet is made around it if none holds it. Default: next free one. */
  readonly primaryAddress?: string;
  /** MAC of the primary ENI. */
  readonly primaryMAC?: string;
  readonly type?: string;
}

/** Makes a RUNNING instance with its primary ENI. @throws {InvalidError} when the id or address is taken. */
export function addInstance(
  account: VolcengineAccount,
  vpc: SimulatedVpc,
  defaults: { readonly zone: string; readonly subnetID: string },
  options: AddInstanceOptions,
): SimulatedInstance {
  const instanceID = options.instanceID ?? account.newID("i");
  if (!/^i-[\w-]+$/.test(instanceID))
    throw new InvalidError(`"${instanceID}" is not an instance id like i-abc123`);
  if (account.instances.has(instanceID)) throw new InvalidError(`the instance ${instanceID} exists already`);
  const zone = options.zone ?? defaults.zone;
  const subnet = subnetFor(account, vpc, zone, defaults, options.primaryAddress);
  const free = account.freeAddresses(subnet);
  const address = options.primaryAddress === undefined ? free[0] : parseAddress(options.primaryAddress);
  if (address === undefined || !free.includes(address)) {
    const what = options.primaryAddress ?? "any address";
    throw new InvalidError(`cannot give ${what} to ${instanceID}: not free in ${subnet.cidr}`);
  }

  const group = [...account.securityGroups.values()].find((candidate) => candidate.vpcID === vpc.vpcID);
  const eni = newEni(account, subnet, {
    name: "",
    description: "",
    type: "primary",
    tags: {},
    securityGroupIDs: group === undefined ? [] : [group.securityGroupID],
    addresses: [formatAddress(address)],
    ...(options.primaryMAC === undefined ? {} : { mac: options.primaryMAC }),
  });
  const instance: SimulatedInstance = {
    instanceID,
    name: instanceID,
    type: options.type ?? "ecs.ebmg2a.32xlarge",
    status: "RUNNING",
    vpcID: vpc.vpcID,
    zone,
    primaryAddress: formatAddress(address),
    primaryEniID: eni.eniID,
    createdAt: account.clock.now(),
  };
  account.putInstance(instanceID, instance);
  account.putEni(eni.eniID, { ...eni, status: "InUse", instanceID, deleteOnTermination: true });
  return instance;
}

/** RUNNING → STOPPING → STOPPED. ENIs stay attached, as they do on the platform. */
export function stopInstance(account: VolcengineAccount, instanceID: string): void {
  change(account, instanceID, ["RUNNING"], "STOPPING", "STOPPED");
}

/** STOPPED → STARTING → RUNNING. */
export function startInstance(account: VolcengineAccount, instanceID: string): void {
  change(account, instanceID, ["STOPPED"], "STARTING", "RUNNING");
}

/**
 * DELETING → gone. The primary ENI and those attached with DeleteOnTermination go with it; the others are
 * detached and stay, with their addresses, until somebody deletes them.
 */
export function deleteInstance(account: VolcengineAccount, instanceID: string): void {
  change(account, instanceID, ["RUNNING", "STOPPED", "STOPPING", "STARTING"], "DELETING", undefined);
}

function change(
  account: VolcengineAccount,
  instanceID: string,
  from: readonly InstanceStatus[],
  during: InstanceStatus,
  to: InstanceStatus | undefined,
): void {
  const instance = account.instances.get(instanceID);
  if (instance === undefined) throw new NotFoundError(`there is no instance ${instanceID}`);
  if (instance.status === to || instance.status === during) return;
  if (!from.includes(instance.status)) {
    throw new InvalidError(`the instance ${instanceID} is ${instance.status}, not ${from.join(" or ")}`);
  }
  account.putInstance(instanceID, { ...instance, status: during });
  account.later(account.delays.instanceMs, () => {
    const now = account.instances.get(instanceID);
    if (now?.status !== during) return;
    if (to !== undefined) {
      account.putInstance(instanceID, { ...now, status: to });
      return;
    }
    account.putInstance(instanceID, undefined);
    for (const eni of attachedEnis(account, instanceID)) {
      if (eni.type === "primary" || eni.deleteOnTermination) account.putEni(eni.eniID, undefined);
      else if (eni.status !== "Detaching") startDetach(account, eni);
    }
  });
}

function subnetFor(
  account: VolcengineAccount,
  vpc: SimulatedVpc,
  zone: string,
  defaults: { readonly zone: string; readonly subnetID: string },
  primaryAddress: string | undefined,
): SimulatedSubnet {
  const subnets = [...account.subnets.values()].filter((subnet) => subnet.vpcID === vpc.vpcID);
  const fitting =
    primaryAddress === undefined
      ? subnets.find((subnet) => subnet.subnetID === defaults.subnetID && zone === defaults.zone)
      : subnets.find((subnet) => {
          const single = { base: parseAddress(primaryAddress), prefix: 32 };
          return contains(parseCidr(subnet.cidr), single);
        });
  if (fitting !== undefined) {
    if (fitting.zone === zone) return fitting;
    throw new InvalidError(`${primaryAddress} is in ${fitting.cidr} of ${fitting.zone}, not of ${zone}`);
  }
  if (primaryAddress === undefined) throw new InvalidError(`the zone ${zone} needs a primaryAddress`);

  const cidr = formatCidr(blockOf(parseAddress(primaryAddress), 24));
  const ranges = [vpc.cidr, ...vpc.secondaryCIDRs];
  if (!ranges.some((range) => contains(parseCidr(range), parseCidr(cidr)))) {
    account.putVpc({ ...vpc, secondaryCIDRs: [...vpc.secondaryCIDRs, cidr] });
  }
  const subnet: SimulatedSubnet = {
    subnetID: account.newID("subnet"),
    name: "nodes",
    description: "",
    vpcID: vpc.vpcID,
    zone,
    cidr,
    status: "Available",
    tags: {},
    createdAt: account.clock.now(),
  };
  account.putSubnet(subnet.subnetID, subnet);
  return subnet;
}
