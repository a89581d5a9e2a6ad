import { contains, formatCidr, overlaps, parseCidr } from "@cocoon-net/core";
import { readCidr, type VolcengineAccount } from "./account.ts";
import { refuse } from "./api-fault.ts";
import { findSubnet, requireAvailableVpc } from "./lookup.ts";
import { filterByTags, readPaging } from "./paging.ts";
import type { RequestParameters } from "./request-parameters.ts";
import { securityGroupOnTheWire, subnetOnTheWire, vpcOnTheWire } from "./wire.ts";

type Result = Record<string, unknown>;

/** Facts §2.8. Pending → Available, and the VPC is Pending meanwhile. */
export function createSubnet(account: VolcengineAccount, params: RequestParameters): Result {
  const vpcID = params.required("VpcId");
  const zone = params.required("ZoneId");
  const cidr = readCidr(params.required("CidrBlock"));
  const name = params.optional("SubnetName") ?? "";
  const description = params.optional("Description") ?? "";
  const tags = params.tags(account.limits.tagsPerResource);
  params.refuseOthers();

  requireAvailableVpc(account, vpcID);
  const vpc = account.vpcs.get(vpcID);
  if (vpc === undefined) throw refuse("InvalidVpc.NotFound", `The VPC ${vpcID} does not exist.`);
  const ranges = [vpc.cidr, ...vpc.secondaryCIDRs].map((range) => parseCidr(range));
  if (cidr.prefix > 29 || !ranges.some((range) => contains(range, cidr))) {
    throw refuse(
      "InvalidCidr.Malformed",
      `${formatCidr(cidr)} is not inside ${vpc.cidr}, or smaller than a /29.`,
    );
  }
  const siblings = [...account.subnets.values()].filter((subnet) => subnet.vpcID === vpcID);
  const clash = siblings.find((subnet) => overlaps(parseCidr(subnet.cidr), cidr));
  // The facts name the rule (no overlap in the VPC) but not its code.
  if (clash)
    throw refuse("InvalidCidr.Conflict", `${formatCidr(cidr)} overlaps ${clash.subnetID} (${clash.cidr}).`);
  if (siblings.length >= account.limits.subnetsPerVpc) {
    throw refuse("QuotaExceeded.Subnet", `${vpcID} has ${siblings.length} subnets, its quota.`);
  }

  const subnetID = account.newID("subnet");
  account.putSubnet(subnetID, {
    subnetID,
    name,
    description,
    vpcID,
    zone,
    cidr: formatCidr(cidr),
    status: "Pending",
    tags,
    createdAt: account.clock.now(),
  });
  account.later(
    account.delays.createSubnetMs,
    () => {
      const subnet = account.subnets.get(subnetID);
      if (subnet !== undefined) account.putSubnet(subnetID, { ...subnet, status: "Available" });
    },
    () => account.putSubnet(subnetID, undefined),
  );
  account.lockVpc(vpcID, account.delays.createSubnetMs);
  return { SubnetId: subnetID };
}

/** Facts §2.8. */
export function describeSubnets(account: VolcengineAccount, params: RequestParameters): Result {
  const ids = params.list("SubnetIds");
  const name = params.optional("SubnetName");
  const vpcID = params.optional("VpcId");
  const zone = params.optional("ZoneId");
  const filters = params.tagFilters();
  const page = readPaging(params, { pageNumber: true });
  params.refuseOthers();
  const found = filterByTags([...account.subnets.values()], filters).filter(
    (subnet) =>
      (ids.length === 0 || ids.includes(subnet.subnetID)) &&
      (name === undefined || subnet.name === name) &&
      (vpcID === undefined || subnet.vpcID === vpcID) &&
      (zone === undefined || subnet.zone === zone),
  );
  const { items, fields } = page(found, (subnet) => subnet.subnetID);
  return { Subnets: items.map((subnet) => subnetOnTheWire(account, subnet)), ...fields };
}

/** Facts §2.8. */
export function describeSubnetAttributes(account: VolcengineAccount, params: RequestParameters): Result {
  const subnetID = params.required("SubnetId");
  params.refuseOthers();
  return subnetOnTheWire(account, findSubnet(account, subnetID));
}

/** A subnet that still holds an ENI is refused (the code is not in the facts). */
export function deleteSubnet(account: VolcengineAccount, params: RequestParameters): Result {
  const subnetID = params.required("SubnetId");
  params.refuseOthers();
  const subnet = findSubnet(account, subnetID);
  requireAvailableVpc(account, subnet.vpcID);
  if ([...account.enis.values()].some((eni) => eni.subnetID === subnetID)) {
    throw refuse("InvalidSubnet.InUse", `The subnet ${subnetID} has ENIs.`);
  }
  account.putSubnet(subnetID, undefined);
  return {};
}

/** Facts §2.9. */
export function describeSecurityGroups(account: VolcengineAccount, params: RequestParameters): Result {
  const ids = params.list("SecurityGroupIds");
  const names = params.list("SecurityGroupNames");
  const vpcID = params.optional("VpcId");
  const page = readPaging(params, { pageNumber: true });
  params.refuseOthers();
  const found = [...account.securityGroups.values()].filter(
    (group) =>
      (ids.length === 0 || ids.includes(group.securityGroupID)) &&
      (names.length === 0 || names.includes(group.name)) &&
      (vpcID === undefined || group.vpcID === vpcID),
  );
  const { items, fields } = page(found, (group) => group.securityGroupID);
  return { SecurityGroups: items.map((group) => securityGroupOnTheWire(account, group)), ...fields };
}

/** Facts §2.9. */
export function describeVpcs(account: VolcengineAccount, params: RequestParameters): Result {
  const ids = params.list("VpcIds");
  const page = readPaging(params, { pageNumber: true });
  params.refuseOthers();
  const found = [...account.vpcs.values()].filter((vpc) => ids.length === 0 || ids.includes(vpc.vpcID));
  const { items, fields } = page(found, (vpc) => vpc.vpcID);
  return { Vpcs: items.map((vpc) => vpcOnTheWire(account, vpc)), ...fields };
}
