import {
  initCluster,
  keys,
  type LeaseRecord,
  listAll,
  prefixes,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import { afterAll, beforeAll, beforeEach } from "vitest";
import type { recordedRegistration } from "../../src/cluster-membership.ts";
import { openStore } from "../../src/drivers.ts";

let etcd: TestServer;
let redis: TestServer;
let turn = 0;

/** An etcd and a Redis for the tests of a file. */
export function usesBothStores(): void {
  beforeAll(async () => {
    [etcd, redis] = await Promise.all([startEtcd(), startRedis({ appendonly: true })]);
  });
  afterAll(async () => {
    await Promise.all([etcd?.[Symbol.asyncDispose](), redis?.[Symbol.asyncDispose]()]);
  });
  beforeEach(() => {
    turn++;
  });
}

/** A prefix of this test's own on each server. */
export const onEtcd = (name = "a"): string => `etcd://127.0.0.1:${etcd.port}/t${turn}/${name}`;
export const onRedis = (name = "b"): string => `redis://127.0.0.1:${redis.port}/t${turn}/${name}`;

export const lease = (node: string, seq: number): LeaseRecord => ({
  ...{ node, mac: "02:00:00:00:00:01", expiry: "2031-01-01T00:00:00.000Z", seq },
});

/** A cluster of nodes with a lease each. @returns what each node has on record, by name */
export async function populate(store: Store, ...names: readonly string[]): Promise<Map<string, OnRecord>> {
  await initCluster(store, { parentCIDR: "10.0.0.0/12", platform: "volcengine" });
  const files = new Map<string, OnRecord>();
  for (const node of names) {
    const owned = await register(store, node);
    await owned.mirror([[owned.subnet.replace("0/24", "7"), lease(node, 1)]]);
    files.set(node, onRecord(owned, store));
  }
  return files;
}

export type OnRecord = Parameters<typeof recordedRegistration>[1];

export function onRecord(owned: Registration, store: Store): OnRecord {
  const { node, uid, subnet, epoch, incarnation, config } = owned;
  const { clusterUID } = config;
  return {
    node,
    uid,
    subnet,
    epoch,
    clusterUID,
    store: store.label,
    ...(incarnation ? { incarnation } : {}),
  };
}

export function register(store: Store, node: string, uid = `i-${node}`): Promise<Registration> {
  return new Registry(store).register({ node, uid, agentVersion: "1" });
}

/** What a store holds, as a person sees it; `config` and the epochs are the copy's own. */
export async function contents(url: string): Promise<string[]> {
  await using store = await openStore(url);
  const { entries } = await listAll(store, "");
  return entries
    .filter(({ key }) => ![keys.config, keys.incarnation].includes(key) && !key.startsWith(prefixes.epochs))
    .map(({ key, value }) => `${key}=${value}`);
}

export async function known(files: Map<string, OnRecord>, node: string): Promise<OnRecord> {
  const file = files.get(node);
  if (!file) throw new Error(`no ${node}`);
  return file;
}
