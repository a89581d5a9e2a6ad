import { NotFoundError } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { listEnis, listSecurityGroups } from "./reads.ts";
import type { Instance } from "./wire.ts";

/** Those of the instance's primary ENI; else the first of the VPC. */
export async function securityGroupsOf(api: Requests, instance: Instance): Promise<readonly string[]> {
  const { instanceID, vpcID, nics } = instance;
  const known = nics?.find((nic) => nic.type === "primary")?.securityGroupIDs ?? [];
  if (known.length > 0) return known;
  const attached = await listEnis(api, { InstanceId: instanceID });
  const primary = attached.find((eni) => eni.type === "primary")?.securityGroupIDs ?? [];
  if (primary.length > 0) return primary;
  const [first] = await listSecurityGroups(api, { VpcId: vpcID });
  if (first !== undefined) return [first.securityGroupID];
  throw new NotFoundError(`the VPC ${vpcID} has no security group`, {
    hint: "create one that allows all traffic from inside the VPC",
  });
}
