import { UnavailableError } from "@cocoon-net/core";

/**
 * The API's records, read field by field: a missing or oddly shaped field makes the answer unusable, never
 * empty (G8).
 */

export type Tags = Readonly<Record<string, string>>;

export interface Eni {
  readonly eniID: string;
  readonly name: string;
  readonly type: string;
  /** Available, InUse, or in the middle of a change: see {@link isChanging}. */
  readonly status: string;
  readonly mac: string;
  readonly subnetID: string;
  /** Undefined while unattached. */
  readonly instanceID: string | undefined;
  readonly primaryAddress: string | undefined;
  readonly secondaryAddresses: readonly string[];
  /** Primary and secondary ones. */
  readonly addressCount: number;
  readonly securityGroupIDs: readonly string[];
  readonly serviceManaged: boolean;
  readonly tags: Tags;
}

export function isChanging(eni: Eni): boolean {
  return ["Creating", "Attaching", "Detaching", "Deleting"].includes(eni.status);
}

export interface Subnet {
  readonly subnetID: string;
  readonly name: string;
  readonly vpcID: string;
  readonly zone: string;
  readonly cidr: string;
  readonly status: string;
  readonly freeAddresses: number;
  /** Undefined where the API does not say. */
  readonly totalAddresses: number | undefined;
  readonly tags: Tags;
}

export interface Instance {
  readonly instanceID: string;
  readonly type: string;
  readonly status: string;
  readonly vpcID: string;
  readonly zone: string;
  /** All that it has, those of the platform included; undefined where the API does not say. */
  readonly nics: readonly InstanceNic[] | undefined;
}

export interface InstanceNic {
  readonly eniID: string;
  readonly type: string;
  readonly securityGroupIDs: readonly string[];
}

export interface SecurityGroup {
  readonly securityGroupID: string;
  /** Undefined where the API does not say. */
  readonly addressesInUse: number | undefined;
}

/** What an instance type allows; undefined where the API does not say. */
export interface InstanceTypeLimits {
  /** The primary ENI included. */
  readonly enis: number | undefined;
  /** The primary address included. */
  readonly addressesPerEni: number | undefined;
}

export type Json = Readonly<Record<string, unknown>>;

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function malformed(what: string): UnavailableError {
  return new UnavailableError(`the Volcengine API answered without a usable ${what}`, { outcome: "unknown" });
}

/** A required string; the empty string counts only where `mayBeEmpty`. */
export function text(record: Json, name: string, mayBeEmpty = false): string {
  const value = record[name];
  if (typeof value === "string" && (mayBeEmpty || value !== "")) return value;
  throw malformed(name);
}

/** The id of what was just made. */
export function readID(result: unknown, name: string): string {
  if (!isRecord(result)) throw malformed(name);
  return text(result, name);
}

function records(value: unknown, name: string): Json[] {
  if (!Array.isArray(value) || !value.every(isRecord)) throw malformed(name);
  return value;
}

function strings(value: unknown, name: string): string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) throw malformed(name);
  return value;
}

function readTags(record: Json): Tags {
  if (record.Tags === null || record.Tags === undefined) return {};
  return Object.fromEntries(
    records(record.Tags, "Tags").map((tag) => [text(tag, "Key"), text(tag, "Value", true)]),
  );
}

export function readEni(record: Json): Eni {
  const sets = record.PrivateIpSets;
  const addresses = records(isRecord(sets) ? sets.PrivateIpSet : undefined, "PrivateIpSets");
  return {
    eniID: text(record, "NetworkInterfaceId"),
    name: text(record, "NetworkInterfaceName", true),
    type: text(record, "Type"),
    status: text(record, "Status"),
    mac: text(record, "MacAddress").toLowerCase(),
    subnetID: text(record, "SubnetId"),
    instanceID: text(record, "DeviceId", true) || undefined,
    primaryAddress: addresses.filter((a) => a.Primary === true).map((a) => text(a, "PrivateIpAddress"))[0],
    secondaryAddresses: addresses.filter((a) => a.Primary !== true).map((a) => text(a, "PrivateIpAddress")),
    addressCount: addresses.length,
    securityGroupIDs: strings(record.SecurityGroupIds, "SecurityGroupIds"),
    serviceManaged: record.ServiceManaged === true,
    tags: readTags(record),
  };
}

export function readSubnet(record: Json): Subnet {
  const free = record.AvailableIpAddressCount;
  if (typeof free !== "number") throw malformed("AvailableIpAddressCount");
  return {
    subnetID: text(record, "SubnetId"),
    name: text(record, "SubnetName", true),
    vpcID: text(record, "VpcId"),
    zone: text(record, "ZoneId"),
    cidr: text(record, "CidrBlock"),
    status: text(record, "Status"),
    freeAddresses: free,
    totalAddresses: typeof record.TotalIpv4Count === "number" ? record.TotalIpv4Count : undefined,
    tags: readTags(record),
  };
}

export function readInstance(record: Json): Instance {
  return {
    instanceID: text(record, "InstanceId"),
    type: text(record, "InstanceTypeId"),
    status: text(record, "Status"),
    vpcID: text(record, "VpcId"),
    zone: text(record, "ZoneId"),
    nics: readNics(record.NetworkInterfaces),
  };
}

/** An instance has at least its primary ENI: an empty list says nothing. */
function readNics(value: unknown): InstanceNic[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  return records(value, "NetworkInterfaces").map((nic) => ({
    eniID: text(nic, "NetworkInterfaceId"),
    type: text(nic, "Type"),
    securityGroupIDs: strings(nic.SecurityGroupIds ?? [], "SecurityGroupIds"),
  }));
}

export function readSecurityGroup(record: Json): SecurityGroup {
  const used = record.UsedIpCount;
  return {
    securityGroupID: text(record, "SecurityGroupId"),
    addressesInUse: typeof used === "number" ? used : undefined,
  };
}

export function readInstanceTypeLimits(record: Json): InstanceTypeLimits {
  const network = isRecord(record.Network) ? record.Network : {};
  const limit = (value: unknown) => (typeof value === "number" && value > 0 ? value : undefined);
  return {
    enis: limit(network.MaximumNetworkInterfaces),
    addressesPerEni: limit(network.MaximumPrivateIpv4AddressesPerNetworkInterface),
  };
}

/** One page of a list. */
export function readPage(result: unknown, key: string): { items: Json[]; nextToken: string } {
  if (!isRecord(result)) throw malformed(key);
  const token = result.NextToken ?? "";
  if (typeof token !== "string") throw malformed("NextToken");
  const missing = result[key] === undefined || result[key] === null;
  // Only a counted zero makes a list that is not there an empty one (G8).
  if (missing && result.TotalCount === 0 && token === "") return { items: [], nextToken: "" };
  return { items: records(result[key], key), nextToken: token };
}
