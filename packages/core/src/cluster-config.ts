import { randomUUID } from "node:crypto";
import { aggregate, overlaps } from "./cidr.ts";
import { requireCluster, requireHere } from "./cluster-place.ts";
import { ConflictError, InvalidError, UnavailableError } from "./errors.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys } from "./keys.ts";
import {
  type ClusterConfig,
  clusterConfigSchema,
  decode,
  encode,
  type IncarnationRecord,
  incarnationSchema,
} from "./model.ts";
import { newIncarnation, putIncarnation } from "./recovery.ts";
import type { CallOptions, Entry, Revision, Store } from "./store.ts";

export interface ClusterInit {
  readonly parentCIDR: string;
  /** Default 24. */
  readonly nodePrefix?: number;
  readonly platform: string;
  readonly reserved?: readonly string[];
  /** Default 24 h, as the guests' leases. */
  readonly leaseMs?: number;
  /** Default 10 min. */
  readonly quarantineMs?: number;
  /** Default 5 min. */
  readonly reclaimAfterMs?: number;
  /** Default 60 s. */
  readonly recoveryMs?: number;
  /** The cluster that the caller belongs to already: no other one is made or joined. */
  readonly clusterUID?: string | undefined;
}

/** The cluster's config with its addresses parsed, and the revision that allocations compare. */
export interface ClusterView {
  readonly config: ClusterConfig;
  readonly revision: Revision;
  /** Undefined where no version that knows it has looked yet. */
  readonly incarnation: IncarnationRecord | undefined;
  /** The store's revision when it was read. */
  readonly readAt: Revision;
  readonly parent: Cidr;
  readonly reserved: readonly Cidr[];
}

/**
 * Writes `config` once. Safe to run again with the same values; what the caller leaves open may be anything then.
 * @throws {ConflictError} when the cluster exists with other values, or is not the one of `clusterUID`;
 * {@link InvalidError} for values that cannot work.
 */
export async function initCluster(
  store: Store,
  init: ClusterInit,
  options?: CallOptions,
): Promise<ClusterView> {
  const wanted = newClusterConfig(init);
  let lost: UnavailableError | undefined;
  // A store that has lost the caller's cluster never gets a new one in its place.
  if (init.clusterUID === undefined) {
    const incarnation = newIncarnation(await store.incarnation(options), {
      recovering: false,
      now: new Date(),
    });
    try {
      await store.txn(
        {
          if: [{ key: keys.config, exists: false }],
          then: [{ put: keys.config, value: encode(wanted) }, putIncarnation(incarnation)],
        },
        options,
      );
    } catch (error) {
      if (!(error instanceof UnavailableError) || error.outcome === "none") throw error;
      lost = error;
    }
  }
  // Read back in every case: it tells our own write whose answer was lost from another operator's.
  const view = await readCluster(store, { ...options, clusterUID: init.clusterUID }).catch(
    (error: unknown) => {
      throw lost ?? error;
    },
  );
  const differences = compared
    .filter((name) => init[name] !== undefined && describe(view.config[name]) !== describe(wanted[name]))
    .map((name) => `${name} ${describe(view.config[name])}, not ${describe(wanted[name])}`);
  if (differences.length === 0) return view;
  throw new ConflictError(`the cluster in ${store.label} exists already with ${differences.join("; ")}`, {
    hint: "use another prefix in the store URL for another cluster",
  });
}

const compared = [
  "parentCIDR",
  "nodePrefix",
  "platform",
  "reserved",
  "leaseMs",
  "quarantineMs",
  "reclaimAfterMs",
  "recoveryMs",
] as const;

/** What a new cluster with these values is. @throws {InvalidError} for values that cannot work */
export function newClusterConfig(init: ClusterInit): ClusterConfig {
  const parent = parseCidr(init.parentCIDR, "parent CIDR");
  const nodePrefix = init.nodePrefix ?? 24;
  if (!Number.isInteger(nodePrefix) || nodePrefix < parent.prefix || nodePrefix > 30) {
    throw new InvalidError(
      `node prefix /${nodePrefix} does not fit into ${init.parentCIDR}; choose between /${parent.prefix} and /30`,
    );
  }
  const reserved = (init.reserved ?? []).map((text) => parseCidr(text, "reserved block"));
  const stray = reserved.find((block) => !overlaps(block, parent));
  if (stray !== undefined) {
    throw new InvalidError(`the reserved block ${formatCidr(stray)} is outside ${init.parentCIDR}`, {
      hint: "name blocks of the parent CIDR that no node may get",
    });
  }
  const config: ClusterConfig = {
    parentCIDR: formatCidr(parent),
    nodePrefix,
    platform: init.platform,
    reserved: reserved.map(formatCidr),
    leaseMs: init.leaseMs ?? 86_400_000,
    quarantineMs: init.quarantineMs ?? 600_000,
    reclaimAfterMs: init.reclaimAfterMs ?? 300_000,
    recoveryMs: init.recoveryMs ?? 60_000,
    clusterUID: randomUUID(),
    schema: 1,
  };
  // What is written once for all must be readable.
  const reading = clusterConfigSchema.safeParse(config);
  const issue = reading.success ? undefined : reading.error.issues[0];
  if (issue) throw new InvalidError(`cluster config: ${issue.path.join(".")}: ${issue.message}`);
  return config;
}

/** For people; blocks that cover the same addresses read the same. */
function describe(value: string | number | readonly string[]): string {
  if (typeof value !== "object") return String(value);
  const blocks = aggregate(value.map((text) => parseCidr(text)));
  return blocks.map(formatCidr).join(" ") || "none";
}

/**
 * @throws {NotFoundError} when there is no cluster under this prefix; {@link ConflictError} when it is not the one of
 * `clusterUID`, has moved to another store, or is still being copied here.
 */
export async function readCluster(
  store: Store,
  options: CallOptions & { readonly clusterUID?: string | undefined } = {},
): Promise<ClusterView> {
  const { clusterUID, ...call } = options;
  const { reads, revision } = await store.txn(
    { then: [{ get: keys.config }, { get: keys.incarnation }] },
    call,
  );
  const config = requireCluster(reads[0], store.label, clusterUID);
  return viewOf(config, reads[1] && decode(incarnationSchema, reads[1]), revision, store.label);
}

/** @throws {ConflictError} when this is not where the cluster is in use. */
export function viewOf(
  entry: Entry,
  incarnation: IncarnationRecord | undefined,
  readAt: Revision,
  label: string,
): ClusterView {
  requireHere(entry, label);
  const config = decode(clusterConfigSchema, entry);
  return {
    config,
    revision: entry.modRevision,
    incarnation,
    readAt,
    parent: parseCidr(config.parentCIDR),
    reserved: config.reserved.map((text) => parseCidr(text)),
  };
}
