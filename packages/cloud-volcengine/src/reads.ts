import { NotFoundError } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import type { ChangeWait } from "./change-wait.ts";
import type { Parameters } from "./signing.ts";
import {
  type Eni,
  type Instance,
  type InstanceTypeLimits,
  readEni,
  readInstance,
  readInstanceTypeLimits,
  readSecurityGroup,
  readSubnet,
  type SecurityGroup,
  type Subnet,
} from "./wire.ts";

/** Most ids in one Describe. */
const idsPerCall = 100;

export async function listEnis(api: Requests, filter: Parameters): Promise<Eni[]> {
  return await api.list("DescribeNetworkInterfaces", filter, "NetworkInterfaceSets", readEni);
}

/** ENIs by id, in as few calls as possible. One that does not exist is not in the map. */
export async function findEnis(api: Requests, eniIDs: readonly string[]): Promise<Map<string, Eni>> {
  const found = new Map<string, Eni>();
  for (let start = 0; start < eniIDs.length; start += idsPerCall) {
    const ids = eniIDs.slice(start, start + idsPerCall);
    try {
      for (const eni of await listEnis(api, { NetworkInterfaceIds: ids })) found.set(eni.eniID, eni);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      // Should one unknown id fail the whole call, the others are asked for one by one.
      if (ids.length === 1) continue;
      for (const id of ids) for (const [key, eni] of await findEnis(api, [id])) found.set(key, eni);
    }
  }
  return found;
}

/** Who holds these addresses in the VPC. */
export async function findHolders(
  api: Requests,
  vpcID: string,
  addresses: readonly string[],
): Promise<Eni[]> {
  const found: Eni[] = [];
  for (let start = 0; start < addresses.length; start += idsPerCall) {
    const some = addresses.slice(start, start + idsPerCall);
    found.push(...(await listEnis(api, { VpcId: vpcID, PrivateIpAddresses: some })));
  }
  return [...new Map(found.map((eni) => [eni.eniID, eni])).values()];
}

/**
 * Looks until each ENI is `settled` (or gone, when that says so), all of them with one call per look. After
 * {@link Timing.changeMs} it gives what there is: the caller must look at it. `change`: what was asked for, if it was.
 */
export async function waitForEnis(
  api: Requests,
  eniIDs: readonly string[],
  settled: (eni: Eni | undefined) => boolean,
  change?: ChangeWait,
): Promise<Map<string, Eni>> {
  const pauses = change ?? api.pauses(api.timing.changeMs);
  const seen = new Map<string, Eni>();
  let waiting = [...eniIDs];
  // What was just asked for is not there yet.
  while (waiting.length > 0 && (await pauses.next())) {
    const now = await findEnis(api, waiting);
    for (const id of waiting) {
      const eni = now.get(id);
      if (eni === undefined) seen.delete(id);
      else seen.set(id, eni);
    }
    waiting = waiting.filter((id) => !settled(now.get(id)));
    if (waiting.length === 0) change?.done();
  }
  return seen;
}

export async function listSubnets(api: Requests, filter: Parameters): Promise<Subnet[]> {
  return await api.list("DescribeSubnets", filter, "Subnets", readSubnet);
}

/** Undefined only when the cloud clearly says that there is no such instance. */
export async function findInstance(api: Requests, instanceID: string): Promise<Instance | undefined> {
  const filter = { InstanceIds: [instanceID] };
  const found = await api.list("DescribeInstances", filter, "Instances", readInstance);
  return found.find((instance) => instance.instanceID === instanceID);
}

export async function instanceTypeLimits(
  api: Requests,
  type: string,
): Promise<InstanceTypeLimits | undefined> {
  const filter = { InstanceTypeIds: [type] };
  return (await api.list("DescribeInstanceTypes", filter, "InstanceTypes", readInstanceTypeLimits))[0];
}

export async function listSecurityGroups(api: Requests, filter: Parameters): Promise<SecurityGroup[]> {
  return await api.list("DescribeSecurityGroups", filter, "SecurityGroups", readSecurityGroup);
}
