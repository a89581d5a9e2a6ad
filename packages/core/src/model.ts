import { CorruptError, describeError } from "./errors.ts";
import { parseCidr } from "./ipv4.ts";
import * as z from "./record-schema.ts";
import type { Entry } from "./store.ts";

/**
 * The records of the cluster as they stand in the store (docs/design.md, Keys). Unknown fields are kept when a record is
 * rewritten, so that agents one version apart can share a cluster. Times are RFC 3339 in UTC.
 */

export interface ClusterConfig {
  /** The range all node subnets are cut from. */
  readonly parentCIDR: string;
  /** Prefix length of a slot; fixed for the cluster's life. */
  readonly nodePrefix: number;
  readonly platform: string;
  /** Blocks inside the parent that are never given to a node. */
  readonly reserved: readonly string[];
  readonly leaseMs: number;
  readonly quarantineMs: number;
  /** How long a node stays suspect before the cloud is asked. */
  readonly reclaimAfterMs: number;
  /** How long no subnet is given out after the store may have lost writes; at least twice the nodes' session TTL. */
  readonly recoveryMs: number;
  readonly clusterUID: string;
  readonly schema: 1;
}

/** `incarnation`: the stretch of the store's history that is running. Another one begins when writes may be lost. */
export interface IncarnationRecord {
  /** Names the stretch; never used before. */
  readonly id: string;
  /** What the server said of itself (`Store.incarnation`) to whoever began the stretch. */
  readonly current: string;
  /** No subnet is given out or taken back: living nodes are saying again what they own. */
  readonly recovering: boolean;
  readonly since: string;
}

export interface SlotRecord {
  /** Empty while the slot is in quarantine. */
  readonly node: string;
  readonly uid: string;
}

export const nodeStatuses = ["ready", "suspect", "fencing", "quarantined", "draining", "left"] as const;
export type NodeStatus = (typeof nodeStatuses)[number];

export interface PoolUse {
  readonly size: number;
  readonly leased: number;
  readonly free: number;
}

export interface NodeRecord {
  /** The instance id, or a random UUID where no cloud knows the node (G12). */
  readonly uid: string;
  /** Set where the cloud can be asked about the node; without it reclaim is manual. */
  readonly instanceID?: string;
  readonly status: NodeStatus;
  readonly lastSeen: string;
  readonly subnet: string;
  readonly platform?: string;
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  readonly zone?: string;
  readonly region?: string;
  /** Volcengine VPC id, or GCE project. */
  readonly network?: string;
  readonly agentVersion: string;
  /** When its agent connected last; absent while the node is being set up and no agent has run yet. */
  readonly runningSince?: string;
  /** When the last lease of the subnet ends (G6). */
  readonly maxLeaseEnd?: string;
  readonly pool?: PoolUse;
  readonly leaseSource?: string;
  /** What its guests have as their router; by default the subnet's first host address. */
  readonly gateway?: string;
  /** Of a draining node: since when it grants nothing new, with every lease that it has in the store. */
  readonly grantsStopped?: string;
  /** Of a node that has begun to drain by itself: why. */
  readonly departs?: string;
  /** Epochs of ownerships under this name that have ended, oldest first: none of them may be asserted again. */
  readonly ended?: readonly number[];
}

/** A mirrored lease: `pool/{ip}`. */
export interface LeaseRecord {
  readonly node: string;
  readonly mac: string;
  readonly expiry: string;
  readonly vmID?: string;
  readonly hostname?: string;
  /** The node's grant number of this lease; a release names it (G4). */
  readonly seq: number;
}

export interface QuarantineRecord {
  readonly node: string;
  readonly uid: string;
  readonly from: string;
  readonly until: string;
  readonly reason: string;
  /** Whether the cloud confirmed the fence. */
  readonly fenced: boolean;
  /** The reclaim that it belongs to, so that a later quarantine of the same block is another one. */
  readonly intent?: string;
}

/** What tells whose `intents/{id}` is, without knowing the rest of it. */
export interface IntentHead {
  readonly kind: string;
  readonly node?: string;
  readonly subnet?: string;
  readonly step?: string;
  readonly startedAt?: string;
  /** Failures of the current step. */
  readonly attempts?: number;
  readonly lastError?: string;
}

export interface EventRecord {
  readonly time: string;
  readonly type: string;
  /** Why, as a stable word. */
  readonly reason?: string;
  readonly node?: string;
  readonly subnet?: string;
  readonly ip?: string;
  readonly vmID?: string;
  /** The job that it is about. */
  readonly intent?: string;
  readonly message: string;
}

const cidr = z.string().and((value) => {
  try {
    parseCidr(value, "block");
    return undefined;
  } catch (error) {
    return describeError(error);
  }
});
const time = z.time();

export const clusterConfigSchema: z.RecordSchema<ClusterConfig> = z.looseObject({
  parentCIDR: cidr,
  nodePrefix: z.int().min(1).max(30),
  platform: z.string(),
  reserved: z.array(cidr).default([]),
  leaseMs: z.int().positive().default(86_400_000),
  quarantineMs: z.int().nonnegative().default(600_000),
  reclaimAfterMs: z.int().nonnegative().default(300_000),
  recoveryMs: z.int().positive().default(60_000),
  clusterUID: z.string(),
  // A cluster that is not in use here has a word there (cluster-place.ts).
  schema: z.literal(1, (value) =>
    value === "moved" || value === "incoming"
      ? `is "${value}": the cluster is not in use in this store`
      : `is ${JSON.stringify(value)}, not 1`,
  ),
});

export const incarnationSchema: z.RecordSchema<IncarnationRecord> = z.looseObject({
  id: z.string(),
  current: z.string(),
  recovering: z.boolean(),
  since: time,
});

export const slotSchema: z.RecordSchema<SlotRecord> = z.looseObject({ node: z.string(), uid: z.string() });

export const nodeSchema: z.RecordSchema<NodeRecord> = z.looseObject({
  uid: z.string(),
  instanceID: z.exactOptional(z.string()),
  status: z.oneOf(nodeStatuses),
  lastSeen: time,
  subnet: cidr,
  platform: z.exactOptional(z.string()),
  subnetID: z.exactOptional(z.string()),
  eniIDs: z.array(z.string()).default([]),
  zone: z.exactOptional(z.string()),
  region: z.exactOptional(z.string()),
  network: z.exactOptional(z.string()),
  agentVersion: z.string().default("unknown"),
  runningSince: z.exactOptional(time),
  maxLeaseEnd: z.exactOptional(time),
  pool: z.exactOptional(z.looseObject({ size: z.int(), leased: z.int(), free: z.int() })),
  leaseSource: z.exactOptional(z.string()),
  gateway: z.exactOptional(z.ipv4()),
  grantsStopped: z.exactOptional(time),
  departs: z.exactOptional(z.string()),
  ended: z.exactOptional(z.array(z.int())),
});

export const leaseSchema: z.RecordSchema<LeaseRecord> = z.looseObject({
  node: z.string(),
  mac: z.string(),
  expiry: time,
  vmID: z.exactOptional(z.string()),
  hostname: z.exactOptional(z.string()),
  seq: z.int().nonnegative(),
});

export const quarantineSchema: z.RecordSchema<QuarantineRecord> = z.looseObject({
  node: z.string(),
  uid: z.string(),
  from: time,
  until: time,
  reason: z.string(),
  fenced: z.boolean(),
  intent: z.exactOptional(z.string()),
});

export const intentHeadSchema: z.RecordSchema<IntentHead> = z.looseObject({
  kind: z.string(),
  node: z.exactOptional(z.string()),
  subnet: z.exactOptional(z.string()),
  step: z.exactOptional(z.string()),
  startedAt: z.exactOptional(z.string()),
  attempts: z.exactOptional(z.int()),
  lastError: z.exactOptional(z.string()),
});

export const eventSchema: z.RecordSchema<EventRecord> = z.looseObject({
  time,
  type: z.string(),
  reason: z.exactOptional(z.string()),
  node: z.exactOptional(z.string()),
  subnet: z.exactOptional(z.string()),
  ip: z.exactOptional(z.string()),
  vmID: z.exactOptional(z.string()),
  intent: z.exactOptional(z.string()),
  message: z.string(),
});

/** Reads a record. @throws {CorruptError} naming the key and the first thing wrong with its value. */
export function decode<T>(schema: z.RecordSchema<T>, entry: Pick<Entry, "key" | "value">): T {
  let json: unknown;
  try {
    json = JSON.parse(entry.value);
  } catch (cause) {
    throw new CorruptError(`the value of ${entry.key} is not JSON`, { cause });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.join(".") || "value";
  throw new CorruptError(`${entry.key}: ${where}: ${issue?.message ?? "is malformed"}`);
}

export function encode(record: unknown): string {
  return JSON.stringify(record);
}
