import {
  type ClusterInit,
  decode,
  encode,
  eventSchema,
  formatCidr,
  type IncarnationRecord,
  incarnationSchema,
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
  withEnded,
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

/** Takes back what made the node an owner, as a server does that has lost its newest writes. */
export async function loseClaim(
  store: Store,
  { node, subnet, config }: Pick<Registration, "node" | "subnet" | "config">,
): Promise<void> {
  await store.txn({
    then: [keys.subnet(node), keys.epochs(node), keys.node(node), ...slotKeys(subnet, config.nodePrefix)].map(
      (key) => ({ delete: key }),
    ),
  });
}

export async function incarnationIn(store: Store): Promise<IncarnationRecord> {
  const { entry } = await store.get(keys.incarnation);
  if (!entry) throw new Error(`there is no ${keys.incarnation}`);
  return decode(incarnationSchema, entry);
}

/** The types of the events in the log about a node. */
export async function eventsOf(store: Store, node: string): Promise<string[]> {
  const { entries } = await listAll(store, prefixes.events);
  return entries
    .toSorted((a, b) => a.modRevision - b.modRevision)
    .map((entry) => decode(eventSchema, entry))
    .filter((event) => event.node === node)
    .map(({ type }) => type);
}

/** What the controller writes when it takes a node's block into quarantine. */
export async function takeAway(store: Store, registration: Registration): Promise<void> {
  const { node, uid, subnet, config } = registration;
  const { entry } = await store.get(keys.node(node));
  const { entry: claim } = await store.get(keys.subnet(node));
  if (!entry || !claim) throw new Error(`${node} owns nothing`);
  const record = { ...withEnded(decode(nodeSchema, entry), claim, undefined), status: "quarantined" };
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
      { put: entry.key, value: encode(record) },
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
