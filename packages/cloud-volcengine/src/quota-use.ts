import { CocoonError, ExhaustedError } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { QuotaError } from "./api-errors.ts";
import { listSecurityGroups } from "./reads.ts";
import { securityGroupsOf } from "./security-groups.ts";
import type { Steps } from "./steps.ts";
import { type Instance, isRecord, type Subnet } from "./wire.ts";

/** The same refusal, with how much of the quota is in use; as it is where that cannot be told. */
export async function withUse(
  { api }: Steps,
  error: CocoonError,
  instance: Instance,
  subnet: Subnet,
): Promise<CocoonError> {
  if (!(error instanceof QuotaError)) return error;
  const use = await useOfQuota(api, error.vendorCode, instance, subnet).catch((failure: unknown) => {
    if (failure instanceof CocoonError) return undefined;
    throw failure;
  });
  if (use === undefined) return error;
  const options = { cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) };
  return new ExhaustedError(`${error.message} (${use})`, options);
}

async function useOfQuota(
  api: Requests,
  vendorCode: string,
  instance: Instance,
  subnet: Subnet,
): Promise<string | undefined> {
  switch (vendorCode) {
    case "QuotaExceeded.Eni": {
      const count = await countEnis(api, { Type: "secondary" });
      return count === undefined ? undefined : `in use: ${count} secondary ENIs of the account`;
    }
    case "LimitExceeded.EnisPerInstance": {
      const count = await countEnis(api, { InstanceId: instance.instanceID });
      return count === undefined ? undefined : `in use: ${count} ENIs of ${instance.instanceID}`;
    }
    case "QuotaExceeded.SecurityGroupIp": {
      const ids = await securityGroupsOf(api, instance);
      const groups = await listSecurityGroups(api, { VpcId: instance.vpcID, SecurityGroupIds: ids });
      const uses = groups.map(
        (group) => `${group.addressesInUse ?? "?"} addresses of ${group.securityGroupID}`,
      );
      return `in use: ${uses.join(", ")}`;
    }
    case "InsufficientIpInSubnet": {
      const { freeAddresses, totalAddresses } = subnet;
      return `free in ${subnet.cidr} at the start: ${freeAddresses} of ${totalAddresses ?? "its addresses"}`;
    }
    default:
      return undefined;
  }
}

async function countEnis(
  api: Requests,
  filter: Readonly<Record<string, string>>,
): Promise<number | undefined> {
  // By number of page, because only that way is anything counted.
  const answer = await api.call("DescribeNetworkInterfaces", { ...filter, PageNumber: 1, PageSize: 1 });
  return isRecord(answer) && typeof answer.TotalCount === "number" ? answer.TotalCount : undefined;
}
