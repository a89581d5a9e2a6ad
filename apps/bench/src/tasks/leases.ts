import { encode, keys, type MirrorChange, Registration, type Store } from "@cocoon-net/core";
import { patiently } from "../patience.ts";
import { openRawClient, type RawClient } from "../raw/client.ts";
import { addressOf, clusterConfig, leaseOf, nodeName, subnetOf } from "../synthetic-cluster.ts";
import { openStore, type Side, type Target } from "../target.ts";
import type { Task } from "../task.ts";

export interface LeasesParams {
  readonly target: Target;
  readonly side: Side;
  /** Numbers of the nodes. */
  readonly nodes: readonly number[];
  readonly leasesPerNode: number;
  /** 0 is the first mirror, each further one a renewal of everything. */
  readonly generation: number;
  /** Connections that the nodes share. */
  readonly handles: number;
  /** Nodes that write at the same time. */
  readonly inFlight: number;
  /** Renew again and again for so long, instead of once. */
  readonly forMs?: number;
}

export interface LeasesResult {
  readonly leases: number;
  /** Writes of one node's leases that failed and were tried again. */
  readonly failures: number;
}

/** Writes all leases of one node in one generation. */
type WriteNode = (generation: number) => Promise<void>;

/** What this project's transactions are cut to: etcd's limit, and on Redis twice that. */
const batches = { etcd: 128, redis: 256 } as const;

export const writeLeases: Task<LeasesParams, LeasesResult> = async (params, context) => {
  const { target, side, leasesPerNode, handles, inFlight, forMs } = params;
  const open = side === "ours" ? openStore : openRawClient;
  const clients = await Promise.all(Array.from({ length: handles }, () => open(target)));
  for (const client of clients) context.stack.use(client);
  const writers: WriteNode[] = [];
  const waiting = params.nodes.entries();
  const prepare = async () => {
    for (const [position, node] of waiting) {
      const client = clients[position % handles];
      if (client === undefined) return;
      writers[position] = await patiently(() =>
        "txn" in client
          ? ourWriter(client, node, leasesPerNode)
          : rawWriter(client, node, leasesPerNode, batches[target.kind]),
      );
    }
  };
  await Promise.all(Array.from({ length: inFlight }, prepare));
  await context.start();
  const end = performance.now() + (forMs ?? 0);
  let [leases, failures, turn] = [0, 0, 0];
  const takeTurns = async () => {
    for (;;) {
      const generation = params.generation + Math.floor(turn / writers.length);
      const over = forMs === undefined ? turn >= writers.length : performance.now() >= end;
      const write = writers[turn % writers.length];
      turn += 1;
      if (over || write === undefined) return;
      await patiently(
        () => write(generation),
        () => {
          failures += 1;
        },
      );
      leases += leasesPerNode;
      context.progress(leases);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, takeTurns));
  return { leases, failures };
};

async function ourWriter(store: Store, node: number, leasesPerNode: number): Promise<WriteNode> {
  const [name, subnet] = [nodeName(node), subnetOf(node)];
  // What registering leaves behind, as far as mirroring needs it.
  const { revision } = await store.txn({ then: [{ put: keys.subnet(name), value: encode(subnet) }] });
  const registration = new Registration(store, {
    node: name,
    uid: `i-${name}`,
    subnet,
    epoch: revision,
    config: clusterConfig,
  });
  return (generation) => registration.mirror(changesOf(node, leasesPerNode, generation));
}

async function rawWriter(
  client: RawClient,
  node: number,
  leasesPerNode: number,
  batch: number,
): Promise<WriteNode> {
  const fence = await client.claim(keys.subnet(nodeName(node)), encode(subnetOf(node)));
  return async (generation) => {
    const changes = changesOf(node, leasesPerNode, generation);
    for (let start = 0; start < changes.length; start += batch) {
      await client.write(
        fence,
        changes
          .slice(start, start + batch)
          .map(([address, lease]) => [keys.pool(address), JSON.stringify(lease)]),
      );
    }
  };
}

function changesOf(node: number, leasesPerNode: number, generation: number): MirrorChange[] {
  return Array.from({ length: leasesPerNode }, (_, lease) => [
    addressOf(node, lease),
    leaseOf(node, lease, generation),
  ]);
}
