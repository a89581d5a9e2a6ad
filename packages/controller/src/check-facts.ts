import {
  type Cloud,
  type CloudResource,
  type ClusterConfig,
  decode,
  describeError,
  type Entry,
  type IntentHead,
  intentHeadSchema,
  type LeaseRecord,
  leaseSchema,
  listAll,
  type MovedRecord,
  movedSchema,
  type NodeRecord,
  nodeSchema,
  parseCidr,
  prefixes,
  type QuarantineRecord,
  quarantineSchema,
  type RecordSchema,
  readAll,
  readCluster,
  recordSchema,
  type SlotRecord,
  type Store,
  slotSchema,
  textPrefixes,
} from "@cocoon-net/core";
import { clusterTags } from "./warm-nics.ts";

/** One record, and where it stood. */
export interface Known<T> {
  readonly value: T;
  readonly entry: Pick<Entry, "key" | "modRevision">;
}

/** What a check holds against each other. */
export interface CheckFacts {
  readonly now: number;
  readonly config: ClusterConfig;
  readonly subnets: ReadonlyMap<string, Known<string>>;
  readonly slots: ReadonlyMap<string, Known<SlotRecord>>;
  readonly nodes: ReadonlyMap<string, Known<NodeRecord>>;
  readonly quarantine: ReadonlyMap<string, Known<QuarantineRecord>>;
  readonly moved: ReadonlyMap<string, Known<MovedRecord>>;
  readonly intents: ReadonlyMap<string, Known<IntentHead>>;
  readonly alive: ReadonlySet<string>;
  /** By address; of some subnets only where the check is a sample. */
  readonly leases: ReadonlyMap<string, Known<LeaseRecord>>;
  /** By platform; a platform that could not be asked is missing. */
  readonly resources: ReadonlyMap<string, readonly CloudResource[]>;
  readonly unreadable: readonly { readonly key: string; readonly reason: string }[];
  /** What could not be looked at, for people. */
  readonly unchecked: readonly string[];
}

export interface CheckSources {
  readonly store: Store;
  /** Without it the cloud is not asked. */
  readonly cloudFor?: ((platform: string) => Cloud | Promise<Cloud>) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly now?: (() => Date) | undefined;
  /** Looks at the leases of these subnets only. Default: at all. */
  readonly sample?: readonly string[] | undefined;
}

/**
 * Reads in the order in which nothing that is made meanwhile can look lost (G8): leases, then what the cloud has, then
 * who owns what. @throws {NotFoundError} where there is no cluster
 */
export async function gatherFacts(sources: CheckSources): Promise<CheckFacts> {
  const { store, cloudFor, signal, now = () => new Date(), sample } = sources;
  const { config } = await readCluster(store, { signal });
  const unreadable = new Map<string, string>();
  const unchecked: string[] = [];

  const table = async <T>(prefix: string, schema: RecordSchema<T>): Promise<Map<string, Known<T>>> => {
    const read = (entry: Entry): [string, Known<T>] | undefined => {
      try {
        const { key, modRevision } = entry;
        return [key, { value: decode(schema, entry), entry: { key, modRevision } }];
      } catch (error) {
        unreadable.set(entry.key, describeError(error));
        return undefined;
      }
    };
    const { items } = await readAll(store, prefix, read, { signal });
    const rows = items.filter((item) => item !== undefined);
    return new Map(rows.map(([key, known]) => [key.slice(key.indexOf("/") + 1), known]));
  };

  const leases = new Map<string, Known<LeaseRecord>>();
  const parts = sample ? sample.flatMap((subnet) => textPrefixes(parseCidr(subnet))) : [""];
  for (const part of new Set(parts)) {
    for (const [ip, lease] of await table(prefixes.pool + part, leaseSchema)) leases.set(ip, lease);
  }
  // Whom to ask; read again below.
  const asked = await table(prefixes.nodes, nodeSchema);
  const resources = new Map<string, readonly CloudResource[]>();
  if (cloudFor) {
    for (const [platform, record] of platformsOf(asked.values(), config)) {
      try {
        const cloud = await cloudFor(platform);
        const { instanceID = "", zone = "", region = "", network = "" } = record;
        const request = {
          tags: clusterTags(config),
          parentCIDR: config.parentCIDR,
          instance: { instanceID, zone, region, network },
        };
        resources.set(platform, await cloud.listResources(request, { signal, purpose: "clean-up" }));
      } catch (error) {
        signal?.throwIfAborted();
        unchecked.push(`${platform}: ${describeError(error)}`);
      }
    }
  }
  const alive = await listAll(store, prefixes.alive, { signal });
  return {
    now: now().getTime(),
    config,
    leases,
    resources,
    subnets: await table(prefixes.subnets, recordSchema.string()),
    slots: await table(prefixes.slots, slotSchema),
    nodes: await table(prefixes.nodes, nodeSchema),
    quarantine: await table(prefixes.quarantine, quarantineSchema),
    moved: await table(prefixes.moved, movedSchema),
    intents: await table(prefixes.intents, intentHeadSchema),
    alive: new Set(alive.entries.map(({ key }) => key.slice(prefixes.alive.length))),
    // Last: the tables above fill it.
    unreadable: [...unreadable].map(([key, reason]) => ({ key, reason })),
    unchecked,
  };
}

/** Each platform with a node of it, by which the cloud is told where to look; one that lives where there is one. */
function platformsOf(
  nodes: Iterable<Known<NodeRecord>>,
  config: ClusterConfig,
): ReadonlyMap<string, NodeRecord> {
  const platforms = new Map<string, NodeRecord>();
  for (const { value } of nodes) {
    if (value.instanceID === undefined) continue;
    const platform = value.platform ?? config.platform;
    const known = platforms.get(platform);
    if (!known || (known.status !== "ready" && value.status === "ready")) platforms.set(platform, value);
  }
  return platforms;
}
