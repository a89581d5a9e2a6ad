import { randomUUID } from "node:crypto";
import { ConflictError, InvalidError, NotFoundError } from "./errors.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys } from "./keys.ts";
import { type ClusterConfig, clusterConfigSchema, decode, encode } from "./model.ts";
import type { CallOptions, Revision, Store } from "./store.ts";

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
}

/** The cluster's config with its addresses parsed, and the revision that allocations compare. */
export interface ClusterView {
  readonly config: ClusterConfig;
  readonly revision: Revision;
  readonly parent: Cidr;
  readonly reserved: readonly Cidr[];
}

/**
 * Writes `config` once. Safe to run again with the same values. @throws {ConflictError} when the cluster exists
 * with other values, {@link InvalidError} for values that cannot work.
 */
export async function initCluster(
  store: Store,
  init: ClusterInit,
  options?: CallOptions,
): Promise<ClusterView> {
  const parent = parseCidr(init.parentCIDR, "parent CIDR");
  const nodePrefix = init.nodePrefix ?? 24;
  if (!Number.isInteger(nodePrefix) || nodePrefix < parent.prefix || nodePrefix > 30) {
    throw new InvalidError(
      `node prefix /${nodePrefix} does not fit into ${init.parentCIDR}; choose between /${parent.prefix} and /30`,
    );
  }
  const config: ClusterConfig = {
    parentCIDR: formatCidr(parent),
    nodePrefix,
    platform: init.platform,
    reserved: (init.reserved ?? []).map((text) => formatCidr(parseCidr(text, "reserved block"))),
    leaseMs: init.leaseMs ?? 86_400_000,
    quarantineMs: init.quarantineMs ?? 600_000,
    reclaimAfterMs: init.reclaimAfterMs ?? 300_000,
    clusterUID: randomUUID(),
    schema: 1,
  };
  await store.txn(
    {
      if: [{ key: keys.config, exists: false }],
      then: [{ put: keys.config, value: encode(config) }],
    },
    options,
  );
  // Read back in every case: it tells our own write whose answer was lost from another operator's.
  const view = await readCluster(store, options);
  const differences = (["parentCIDR", "nodePrefix", "platform"] as const).filter(
    (name) => view.config[name] !== config[name],
  );
  if (differences.length > 0) {
    const list = differences.map((name) => `${name} ${view.config[name]}, not ${config[name]}`).join("; ");
    throw new ConflictError(`the cluster in ${store.label} exists already with ${list}`, {
      hint: "use another prefix in the store URL for another cluster",
    });
  }
  return view;
}

/** @throws {NotFoundError} when there is no cluster under this prefix. */
export async function readCluster(store: Store, options?: CallOptions): Promise<ClusterView> {
  const { entry } = await store.get(keys.config, options);
  if (!entry) {
    throw new NotFoundError(`there is no cluster in ${store.label}`, {
      hint: "create it with `cocoon-net cluster init --parent-cidr …`, or give the first node --parent-cidr",
    });
  }
  const config = decode(clusterConfigSchema, entry);
  return {
    config,
    revision: entry.modRevision,
    parent: parseCidr(config.parentCIDR),
    reserved: config.reserved.map((text) => parseCidr(text)),
  };
}
