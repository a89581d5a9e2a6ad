import { NotFoundError } from "@cocoon-net/core";
import type { Parameters, VolcengineApi } from "./api.ts";
import { Pauses } from "./timing.ts";
import {
  type Eni,
  type Instance,
  type InstanceTypeLimits,
  readEni,
  readInstance,
  readInstanceTypeLimits,
  readSecurityGroupID,
  readSubnet,
  type Subnet,
} from "./wire.ts";

/** Most ids in one Describe. */
const idsPerCall = 100;

export async function listEnis(api: VolcengineApi, filter: Parameters, signal?: AbortSignal): Promise<Eni[]> {
  return await api.list("DescribeNetworkInterfaces", filter, "NetworkInterfaceSets", readEni, signal);
}

/** ENIs by id, in as few calls as possible. One that does not exist is not in the map. */
export async function findEnis(
  api: VolcengineApi,
  eniIDs: readonly string[],
  signal?: AbortSignal,
): Promise<Map<string, Eni>> {
  const found = new Map<string, Eni>();
  for (let start = 0; start < eniIDs.length; start += idsPerCall) {
    const ids = eniIDs.slice(start, start + idsPerCall);
    try {
      for (const eni of await listEnis(api, { NetworkInterfaceIds: ids }, signal)) found.set(eni.eniID, eni);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      // Should one unknown id fail the whole call, the others are asked for one by one.
      if (ids.length === 1) continue;
      for (const id of ids) for (const [key, eni] of await findEnis(api, [id], signal)) found.set(key, eni);
    }
  }
  return found;
}

/**
 * Polls until each ENI is `settled` (or gone, when that says so), all of them with one call per round. After
 * {@link Timing.changeMs} it gives what there is: the caller must look.
 */
export async function waitForEnis(
  api: VolcengineApi,
  eniIDs: readonly string[],
  settled: (eni: Eni | undefined) => boolean,
  signal?: AbortSignal,
): Promise<Map<string, Eni>> {
  const pauses = new Pauses(api.timing, api.timing.changeMs, signal);
  const seen = new Map<string, Eni>();
  let waiting = [...eniIDs];
  while (waiting.length > 0) {
    const now = await findEnis(api, waiting, signal);
    for (const id of waiting) {
      const eni = now.get(id);
      if (eni === undefined) seen.delete(id);
      else seen.set(id, eni);
    }
    waiting = waiting.filter((id) => !settled(now.get(id)));
    if (waiting.length > 0 && !(await pauses.next())) break;
  }
  return seen;
}

export async function listSubnets(
  api: VolcengineApi,
  filter: Parameters,
  signal?: AbortSignal,
): Promise<Subnet[]> {
  return await api.list("DescribeSubnets", filter, "Subnets", readSubnet, signal);
}

/** Undefined only when the cloud clearly says that there is no such instance. */
export async function findInstance(
  api: VolcengineApi,
  instanceID: string,
  signal?: AbortSignal,
): Promise<Instance | undefined> {
  const found = await api.list(
    "DescribeInstances",
    { InstanceIds: [instanceID] },
    "Instances",
    readInstance,
    signal,
  );
  return found.find((instance) => instance.instanceID === instanceID);
}

export async function instanceTypeLimits(
  api: VolcengineApi,
  type: string,
  signal?: AbortSignal,
): Promise<InstanceTypeLimits | undefined> {
  const filter = { InstanceTypeIds: [type] };
  return (
    await api.list("DescribeInstanceTypes", filter, "InstanceTypes", readInstanceTypeLimits, signal)
  )[0];
}

export async function listSecurityGroupIDs(
  api: VolcengineApi,
  vpcID: string,
  signal?: AbortSignal,
): Promise<string[]> {
  return await api.list(
    "DescribeSecurityGroups",
    { VpcId: vpcID },
    "SecurityGroups",
    readSecurityGroupID,
    signal,
  );
}
