import { formerEpochs } from "./cluster-place.ts";
import type { NodeRecord } from "./model.ts";
import type { Entry } from "./store.ts";

/** What a node says about itself when it registers. */
export interface NodeDescription {
  readonly instanceID?: string | undefined;
  readonly zone?: string | undefined;
  readonly region?: string | undefined;
  /** Volcengine VPC id, or GCE project. */
  readonly network?: string | undefined;
  readonly platform?: string | undefined;
  readonly subnetID?: string | undefined;
  readonly eniIDs?: readonly string[] | undefined;
  readonly leaseSource?: string | undefined;
  readonly agentVersion: string;
}

/** How many ended epochs a record keeps: more lives than one name has within the memory of any node. */
const endedKept = 32;

/** The record of a node that owns a subnet from now on. What has `ended` under its name outlives the record before. */
export function newNodeRecord(
  description: NodeDescription,
  fields: Pick<NodeRecord, "uid" | "lastSeen" | "subnet">,
  before: NodeRecord | undefined,
): NodeRecord {
  const {
    instanceID,
    zone,
    region,
    network,
    platform,
    subnetID,
    eniIDs = [],
    leaseSource,
    agentVersion,
  } = description;
  return {
    uid: fields.uid,
    ...(instanceID === undefined ? {} : { instanceID }),
    status: "ready",
    lastSeen: fields.lastSeen,
    subnet: fields.subnet,
    ...(platform === undefined ? {} : { platform }),
    ...(subnetID === undefined ? {} : { subnetID }),
    eniIDs,
    ...(zone === undefined ? {} : { zone }),
    ...(region === undefined ? {} : { region }),
    ...(network === undefined ? {} : { network }),
    agentVersion,
    ...(leaseSource === undefined ? {} : { leaseSource }),
    ...(before?.ended === undefined ? {} : { ended: before.ended }),
  };
}

/**
 * The record once the ownership in `claim` has ended, by every epoch that it was known by (`mark` is its
 * `epochs/{node}`): whoever comes back with one of them is refused, also by a store that has forgotten the rest (G3).
 */
export function withEnded(record: NodeRecord, claim: Entry, mark: Entry | undefined): NodeRecord {
  const ended = [...(record.ended ?? []), ...formerEpochs(claim, mark), claim.modRevision];
  return { ...record, ended: [...new Set(ended)].slice(-endedKept) };
}

/** Whether the record says that the ownership of this epoch has ended. */
export function hasEnded({ ended, status }: NodeRecord, epoch: number): boolean {
  // A version that did not know `ended` has written no epoch: then whatever was, has ended.
  return ended?.includes(epoch) ?? (status === "left" || status === "quarantined");
}
