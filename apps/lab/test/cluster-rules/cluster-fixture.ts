import {
  type ClusterInit,
  decode,
  encode,
  formatCidr,
  initCluster,
  keys,
  type LeaseRecord,
  listAll,
  nodeSchema,
  type Operation,
  parseCidr,
  prefixes,
  type RegisterRequest,
  type Registration,
  type Store,
  slotsOf,
} from "@cocoon-net/core";
import type { Bench } from "@cocoon-net/store-testkit";

/** A handle on a new cluster of 256 slots, 10.64.0.0/24 to 10.64.255.0/24. */
export async function openCluster(
  bench: Bench,
  init: Partial<ClusterInit> = {},
  prefix: string = bench.prefix,
): Promise<Store> {
  const store = await bench.open(prefix);
  await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test", ...init });
  return store;
}

export function requestOf(node: string, subnet?: string, uid = `uid-${node}`): RegisterRequest {
  return { node, uid, subnet, agentVersion: "0.0.0" };
}

export function leaseOf(node: string, seq = 1): LeaseRecord {
  return { node, mac: "02:00:00:00:00:01", expiry: "2030-01-01T00:00:00.000Z", seq };
}

/** Everything under the cluster's prefix, by key. */
export async function contentsOf(store: Store, prefix = ""): Promise<Record<string, string>> {
  const { entries } = await listAll(store, prefix);
  return Object.fromEntries(entries.map(({ key, value }) => [key, value]));
}

/** `subnets/…` by node. */
export async function ownersIn(store: Store): Promise<Map<string, string>> {
  const { entries } = await listAll(store, prefixes.subnets);
  return new Map(
    entries.map(({ key, value }) => [key.slice(prefixes.subnets.length), JSON.parse(value) as string]),
  );
}

/** What the controller writes when it takes a node's block into quarantine. */
export async function takeAway(store: Store, { node, uid, subnet, config }: Registration): Promise<void> {
  const { entry } = await store.get(keys.node(node));
  const held = encode({ node: "", uid });
  await store.txn({
    then: [
      { delete: keys.subnet(node) },
      ...slotKeys(subnet, config.nodePrefix).map((key): Operation => ({ put: key, value: held })),
      {
        put: keys.quarantine(subnet),
        value: encode({
          node,
          uid,
          from: "2026-11-24T00:00:00.000Z",
          until: "2026-11-24T00:10:00.000Z",
          reason: "reclaimed",
          fenced: true,
          intent: "reclaim-1",
        }),
      },
      ...(entry
        ? [{ put: entry.key, value: encode({ ...decode(nodeSchema, entry), status: "quarantined" }) }]
        : []),
    ],
  });
}

/** What the controller writes when a quarantine is over. */
export async function endQuarantine(store: Store, subnet: string, nodePrefix = 24): Promise<void> {
  await store.txn({
    then: [
      { delete: keys.quarantine(subnet) },
      ...slotKeys(subnet, nodePrefix).map((key): Operation => ({ delete: key })),
    ],
  });
}

function slotKeys(subnet: string, nodePrefix: number): string[] {
  return slotsOf(parseCidr(subnet), nodePrefix).map((slot) => keys.slot(formatCidr(slot)));
}
