import type { CloudResource, ListResourcesRequest } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { instanceTag, nodeTag, useOf } from "./ownership.ts";
import { listEnis, listSubnets } from "./reads.ts";
import type { Eni, Tags } from "./wire.ts";

/**
 * All ENIs and subnets of the VPC are listed and told apart here: the API's own filter by tags looks at the first 1,000
 * tagged resources only, and says nothing of the rest (G8).
 */
export async function listResources(
  api: Requests,
  request: ListResourcesRequest,
): Promise<readonly CloudResource[]> {
  const filter = { VpcId: request.instance.network };
  const enis = await listEnis(api, { ...filter, Type: "secondary" });
  const subnets = await listSubnets(api, filter);
  const wanted = Object.entries(request.tags);
  const carries = ({ tags }: { readonly tags: Tags }): boolean =>
    wanted.length > 0 && wanted.every(([key, value]) => tags[key] === value);
  return [
    ...enis.filter(carries).map((eni) => ({
      id: eni.eniID,
      kind: "nic" as const,
      node: eni.tags[nodeTag],
      madeFor: eni.tags[instanceTag],
      instanceID: eni.instanceID,
      addresses: addressesOf(eni),
      warm: useOf(eni) === "warm",
    })),
    ...subnets.filter(carries).map((subnet) => ({
      id: subnet.subnetID,
      kind: "subnet" as const,
      node: subnet.tags[nodeTag],
      madeFor: undefined,
      instanceID: undefined,
      addresses: [subnet.cidr],
      warm: false,
    })),
  ];
}

/**
 * The address that an ENI made for moves has for itself is of the home node's block, as those that it is for; it counts
 * once nothing else is left on it, which then should not be there either.
 */
function addressesOf(eni: Eni): string[] {
  const { primaryAddress, secondaryAddresses } = eni;
  const isBeside = useOf(eni) === "moved" && secondaryAddresses.length > 0;
  return [...(primaryAddress === undefined || isBeside ? [] : [primaryAddress]), ...secondaryAddresses];
}
