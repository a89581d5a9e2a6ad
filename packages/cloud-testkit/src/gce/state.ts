/** The records of the simulated project. They are never changed in place: a change replaces the record. */

/** The part of facts §2.5 that the simulator plays. */
export type GceInstanceStatus = "STAGING" | "RUNNING" | "STOPPING" | "TERMINATED";

export interface GceAlias {
  /** Normal form: `10.4.1.0/28`, a single address with `/32`. */
  readonly cidr: string;
  /** Secondary range of the subnetwork; undefined = its primary range. */
  readonly rangeName: string | undefined;
}

/** Every simulated instance has exactly one, nic0. */
export interface GceNic {
  readonly name: string;
  /** Full URL, as the API shows it. */
  readonly network: string;
  /** Key of the subnetwork: `REGION/NAME`. */
  readonly subnetwork: string;
  readonly address: string;
  readonly mac: string;
  readonly aliases: readonly GceAlias[];
  /** Base64; another one after each accepted change. */
  readonly fingerprint: string;
}

export interface GceInstance {
  /** The numeric id; a new instance of the same name gets another. */
  readonly id: string;
  readonly name: string;
  readonly project: string;
  readonly zone: string;
  readonly status: GceInstanceStatus;
  /** Spot capacity was taken back: the metadata server's `preempted`. */
  readonly preempted: boolean;
  readonly nic: GceNic;
  /** OAuth scopes of its service account; empty = it has none. */
  readonly scopes: readonly string[];
  readonly createdAt: number;
}

export interface GceSecondaryRange {
  readonly rangeName: string;
  readonly cidr: string;
}

export interface GceSubnetwork {
  readonly id: string;
  readonly name: string;
  readonly region: string;
  readonly network: string;
  /** The primary range. */
  readonly cidr: string;
  readonly secondaryRanges: readonly GceSecondaryRange[];
  readonly fingerprint: string;
  readonly createdAt: number;
}

export interface GceOperationError {
  readonly httpStatus: number;
  readonly code: string;
  readonly message: string;
}

export interface GceOperation {
  readonly id: string;
  readonly name: string;
  /** `compute.instances.updateNetworkInterface`, … */
  readonly type: string;
  /** A zone or a region. */
  readonly scope: { readonly kind: "zones" | "regions"; readonly name: string };
  readonly targetLink: string;
  readonly targetID: string;
  readonly status: "PENDING" | "RUNNING" | "DONE";
  readonly error: GceOperationError | undefined;
  readonly startedAt: number;
  readonly endedAt: number | undefined;
}

/** Everything there is, as it truly is. */
export interface GceState {
  readonly project: string;
  readonly instances: readonly GceInstance[];
  readonly subnetworks: readonly GceSubnetwork[];
  readonly operations: readonly GceOperation[];
}

/** One step of the project's state; listeners get it right after the step, synchronously. */
export type GceChange =
  | {
      readonly kind: "instance";
      /** Absent when it was just made. */
      readonly before: GceInstance | undefined;
      /** Absent when it is gone. */
      readonly after: GceInstance | undefined;
    }
  | {
      /** Follows the change of the instance; also for each alias of one that is gone. */
      readonly kind: "alias";
      readonly what: "added" | "removed";
      readonly instance: GceInstance;
      readonly alias: GceAlias;
    }
  | {
      readonly kind: "subnetwork";
      readonly before: GceSubnetwork | undefined;
      readonly after: GceSubnetwork;
    };

export function sameAlias(a: GceAlias, b: GceAlias): boolean {
  return a.cidr === b.cidr && a.rangeName === b.rangeName;
}
