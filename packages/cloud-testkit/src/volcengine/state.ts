/** The records of the simulated account. They are never changed in place: a change replaces the record. */

/** Facts §2.11. */
export type EniStatus = "Creating" | "Available" | "Attaching" | "InUse" | "Detaching" | "Deleting" | "Error";
export type ResourceStatus = "Pending" | "Available";
/** The part of facts §2.10 that the simulator plays. */
export type InstanceStatus = "RUNNING" | "STOPPING" | "STOPPED" | "STARTING" | "DELETING";

export type Tags = Readonly<Record<string, string>>;

export interface SimulatedVpc {
  readonly vpcID: string;
  readonly name: string;
  readonly cidr: string;
  readonly secondaryCIDRs: readonly string[];
  readonly status: ResourceStatus;
  readonly isDefault: boolean;
}

export interface SimulatedSubnet {
  readonly subnetID: string;
  readonly name: string;
  readonly description: string;
  readonly vpcID: string;
  readonly zone: string;
  readonly cidr: string;
  readonly status: ResourceStatus;
  readonly tags: Tags;
  readonly createdAt: number;
}

export interface SimulatedSecurityGroup {
  readonly securityGroupID: string;
  readonly name: string;
  readonly vpcID: string;
}

export interface SimulatedAddress {
  readonly address: string;
  readonly primary: boolean;
}

export interface SimulatedEni {
  readonly eniID: string;
  readonly name: string;
  readonly description: string;
  readonly type: "primary" | "secondary";
  readonly status: EniStatus;
  readonly mac: string;
  /** Set from Attaching until Detaching ends: the `DeviceId` of the API. */
  readonly instanceID: string | undefined;
  readonly vpcID: string;
  readonly zone: string;
  readonly subnetID: string;
  /** CIDR of the subnet. */
  readonly subnet: string;
  /** The primary address first. */
  readonly addresses: readonly SimulatedAddress[];
  readonly securityGroupIDs: readonly string[];
  readonly tags: Tags;
  readonly serviceManaged: boolean;
  readonly deleteOnTermination: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface SimulatedInstance {
  readonly instanceID: string;
  readonly name: string;
  readonly type: string;
  readonly status: InstanceStatus;
  readonly vpcID: string;
  readonly zone: string;
  readonly primaryAddress: string;
  readonly primaryEniID: string;
  readonly createdAt: number;
}

/** Everything there is, as it truly is. */
export interface VolcengineState {
  readonly region: string;
  readonly vpcs: readonly SimulatedVpc[];
  readonly subnets: readonly SimulatedSubnet[];
  readonly securityGroups: readonly SimulatedSecurityGroup[];
  readonly enis: readonly SimulatedEni[];
  readonly instances: readonly SimulatedInstance[];
}

interface Change<Kind extends string, Type> {
  readonly kind: Kind;
  /** Absent when it was just made. */
  readonly before: Type | undefined;
  /** Absent when it is gone. */
  readonly after: Type | undefined;
}

/** One step of the account's state; listeners get it right after the step, synchronously. */
export type VolcengineChange =
  | (Change<"eni", SimulatedEni> & { readonly what: EniChange })
  | Change<"instance", SimulatedInstance>
  | Change<"subnet", SimulatedSubnet>
  | Change<"vpc", SimulatedVpc>;

/**
 * `attached` means: InUse from now on. `detached` means: was delivering until now, no more (also when the
 * ENI is deleted with its instance).
 */
export type EniChange = "created" | "status" | "attached" | "detached" | "addresses" | "tags" | "deleted";

/** Whether the VPC delivers the ENI's addresses to {@link SimulatedEni.instanceID}. */
export function isDelivering(eni: SimulatedEni | undefined): boolean {
  // Until a detach is finished, delivery must be assumed to go on.
  return eni?.instanceID !== undefined && (eni.status === "InUse" || eni.status === "Detaching");
}

export function eniChange(before: SimulatedEni | undefined, after: SimulatedEni | undefined): EniChange {
  if (isDelivering(before) && !isDelivering(after)) return "detached";
  if (!isDelivering(before) && isDelivering(after)) return "attached";
  if (before === undefined) return "created";
  if (after === undefined) return "deleted";
  if (before.addresses !== after.addresses) return "addresses";
  return before.status === after.status ? "tags" : "status";
}
