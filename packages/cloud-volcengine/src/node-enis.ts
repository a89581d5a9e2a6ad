import { type NodeResources, NotFoundError } from "@cocoon-net/core";
import type { VolcengineApi } from "./api.ts";
import { findEnis, listEnis, listSubnets } from "./reads.ts";
import type { Eni, Subnet } from "./wire.ts";

/** What the cloud shows of a node: every ENI in its subnet, whoever owns it, and the ones on record. */
export interface NodeEnis {
  /** Empty when no subnet with the node's id or CIDR is to be seen. */
  readonly subnets: readonly Subnet[];
  readonly enis: readonly Eni[];
  /** Recorded ids that are not to be seen. Gone, unless {@link NodeEnis.doubt} says otherwise. */
  readonly vanished: readonly string[];
  /** Why the list cannot be taken for all there is (G8). */
  readonly doubt: string | undefined;
}

export async function readNodeEnis(
  api: VolcengineApi,
  target: NodeResources,
  signal?: AbortSignal,
): Promise<NodeEnis> {
  const enis = new Map<string, Eni>();
  const subnetIDs = await findSubnetIDs(api, target, signal);
  for (const subnetID of subnetIDs) {
    const listed = await listEnis(api, { SubnetId: subnetID }, signal).catch(noneIfNotFound);
    for (const eni of listed) enis.set(eni.eniID, eni);
  }
  const recorded = await findEnis(
    api,
    target.eniIDs.filter((id) => !enis.has(id)),
    signal,
  );
  for (const eni of recorded.values()) enis.set(eni.eniID, eni);
  // Counted after the ENIs were listed, so that one which was deleted meanwhile casts no doubt.
  const filter = { SubnetIds: subnetIDs };
  const subnets = subnetIDs.length === 0 ? [] : await listSubnets(api, filter, signal).catch(noneIfNotFound);
  return {
    subnets,
    enis: [...enis.values()],
    vanished: target.eniIDs.filter((id) => !enis.has(id)),
    doubt: doubtAbout(target, subnets, [...enis.values()]),
  };
}

/** Addresses that the platform may count as used in an empty subnet; the vendor does not say which count has them. */
const platformAddresses = 5;

/** The subnet's own count of used addresses is a second witness to the list of its ENIs. */
function doubtAbout(
  target: NodeResources,
  subnets: readonly Subnet[],
  enis: readonly Eni[],
): string | undefined {
  if (subnets.length === 0) {
    return `${target.subnetID ?? `the subnet ${target.subnet}`} is not to be seen with this access key and region`;
  }
  for (const { subnetID, totalAddresses, freeAddresses } of subnets) {
    if (totalAddresses === undefined) continue;
    const used = totalAddresses - freeAddresses;
    const listed = enis
      .filter((eni) => eni.subnetID === subnetID)
      .reduce((sum, eni) => sum + eni.addressCount, 0);
    if (used > listed + platformAddresses) {
      return `${subnetID} counts ${used} used addresses, its listed ENIs hold ${listed}`;
    }
  }
  return undefined;
}

/**
 * By id; by CIDR where no id is on record. The same CIDR may be in several VPCs: then all of them are looked
 * at, because any of them could be the node's.
 */
async function findSubnetIDs(
  api: VolcengineApi,
  target: NodeResources,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (target.subnetID !== undefined) return [target.subnetID];
  const subnets = await listSubnets(api, {}, signal);
  return subnets.filter((subnet) => subnet.cidr === target.subnet).map((subnet) => subnet.subnetID);
}

function noneIfNotFound(error: unknown): never[] {
  if (error instanceof NotFoundError) return [];
  throw error;
}
