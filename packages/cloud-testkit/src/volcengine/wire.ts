import { parseCidr, sizeOf } from "@cocoon-net/core";
import { addressesInGroup, type VolcengineAccount } from "./account.ts";
import { attachedEnis } from "./lookup.ts";
import type {
  SimulatedEni,
  SimulatedInstance,
  SimulatedSecurityGroup,
  SimulatedSubnet,
  SimulatedVpc,
  Tags,
} from "./state.ts";

/** The records as the API shows them: exact field names and nesting of facts §2. */

const projectName = "default";
const accountID = "2100000001";

/** Facts §2.5; `DeviceId` is empty while unattached, `PrivateIpSet` holds the primary address too. */
export function eniOnTheWire(eni: SimulatedEni): Record<string, unknown> {
  return {
    NetworkInterfaceId: eni.eniID,
    NetworkInterfaceName: eni.name,
    Description: eni.description,
    Type: eni.type,
    Status: eni.status,
    VpcId: eni.vpcID,
    VpcName: "",
    ZoneId: eni.zone,
    SubnetId: eni.subnetID,
    MacAddress: eni.mac,
    DeviceId: eni.instanceID ?? "",
    PrimaryIpAddress: eni.addresses.find((held) => held.primary)?.address ?? "",
    PrivateIpSets: {
      PrivateIpSet: eni.addresses.map(({ address, primary }) => ({
        PrivateIpAddress: address,
        Primary: primary,
        AssociatedElasticIp: { AllocationId: "", EipAddress: "", ReleaseWithInstance: false },
      })),
    },
    IPv6Sets: [],
    SecurityGroupIds: eni.securityGroupIDs,
    PortSecurityEnabled: false,
    ServiceManaged: eni.serviceManaged,
    ProjectName: projectName,
    AccountId: accountID,
    CreatedAt: beijingTime(eni.createdAt),
    UpdatedAt: beijingTime(eni.updatedAt),
    Tags: tagsOnTheWire(eni.tags),
    AssociatedElasticIp: { AllocationId: "", EipAddress: "", ReleaseWithInstance: false },
    Attachment: { InstanceId: eni.instanceID ?? "", DeleteOnTermination: eni.deleteOnTermination },
  };
}

/** Facts §2.8. */
export function subnetOnTheWire(
  account: VolcengineAccount,
  subnet: SimulatedSubnet,
): Record<string, unknown> {
  return {
    SubnetId: subnet.subnetID,
    SubnetName: subnet.name,
    Description: subnet.description,
    VpcId: subnet.vpcID,
    ZoneId: subnet.zone,
    CidrBlock: subnet.cidr,
    Ipv6CidrBlock: "",
    AvailableIpAddressCount: account.freeAddresses(subnet).length,
    TotalIpv4Count: sizeOf(parseCidr(subnet.cidr).prefix) - (account.behaviour.totalCountsReserved ? 0 : 3),
    Status: subnet.status,
    NetworkAclId: "",
    RouteTable: { RouteTableId: "vtb-sim00001", RouteTableType: "System" },
    IsDefault: false,
    ProjectName: projectName,
    AccountId: accountID,
    CreationTime: beijingTime(subnet.createdAt),
    UpdateTime: beijingTime(subnet.createdAt),
    Tags: tagsOnTheWire(subnet.tags),
  };
}

/** Facts §2.9. */
export function vpcOnTheWire(account: VolcengineAccount, vpc: SimulatedVpc): Record<string, unknown> {
  return {
    VpcId: vpc.vpcID,
    VpcName: vpc.name,
    CidrBlock: vpc.cidr,
    SecondaryCidrBlocks: vpc.secondaryCIDRs,
    UserCidrBlocks: [],
    Status: vpc.status,
    SubnetIds: [...account.subnets.values()].filter((s) => s.vpcID === vpc.vpcID).map((s) => s.subnetID),
    SecurityGroupIds: groupsOf(account, vpc).map((group) => group.securityGroupID),
    RouteTableIds: ["vtb-sim00001"],
    DnsServers: [],
    IsDefault: vpc.isDefault,
    ProjectName: projectName,
    AccountId: accountID,
    Tags: [],
  };
}

/** Facts §2.9. */
export function securityGroupOnTheWire(
  account: VolcengineAccount,
  group: SimulatedSecurityGroup,
): Record<string, unknown> {
  const members = [...account.enis.values()].filter((e) =>
    e.securityGroupIDs.includes(group.securityGroupID),
  );
  const addresses = addressesInGroup(account, group.securityGroupID);
  return {
    SecurityGroupId: group.securityGroupID,
    SecurityGroupName: group.name,
    VpcId: group.vpcID,
    Status: "Available",
    Type: "default",
    ServiceManaged: false,
    UsedIpCount: addresses,
    AvailableIpCount: account.limits.addressesPerSecurityGroup - addresses,
    UsedNetworkInterfaceCount: members.length,
    AvailableNetworkInterfaceCount: 10_000 - members.length,
    ProjectName: projectName,
    AccountId: accountID,
    Description: "",
    Tags: [],
  };
}

/** Facts §2.10. */
export function instanceOnTheWire(
  account: VolcengineAccount,
  instance: SimulatedInstance,
): Record<string, unknown> {
  return {
    InstanceId: instance.instanceID,
    InstanceName: instance.name,
    InstanceTypeId: instance.type,
    Status: instance.status,
    VpcId: instance.vpcID,
    ZoneId: instance.zone,
    EipAddress: null,
    Tags: [],
    MetadataOptions: { HttpTokens: "optional" },
    CreatedAt: beijingTime(instance.createdAt),
    NetworkInterfaces: attachedEnis(account, instance.instanceID).map((eni) => ({
      NetworkInterfaceId: eni.eniID,
      Type: eni.type,
      MacAddress: eni.mac,
      PrimaryIpAddress: eni.addresses.find((held) => held.primary)?.address ?? "",
      SubnetId: eni.subnetID,
      VpcId: eni.vpcID,
      SecurityGroupIds: eni.securityGroupIDs,
      Ipv6Addresses: [],
    })),
  };
}

function groupsOf(account: VolcengineAccount, vpc: SimulatedVpc): SimulatedSecurityGroup[] {
  return [...account.securityGroups.values()].filter((group) => group.vpcID === vpc.vpcID);
}

function tagsOnTheWire(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

/** RFC 3339 at +08:00 (facts §2.5). */
export function beijingTime(ms: number): string {
  return `${new Date(ms + 8 * 3_600_000).toISOString().slice(0, 19)}+08:00`;
}
