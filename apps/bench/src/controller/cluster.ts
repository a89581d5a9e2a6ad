import { VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import {
  encode,
  initCluster,
  keys,
  type NodeRecord,
  type Operation,
  type SlotRecord,
  type Store,
} from "@cocoon-net/core";
import { addressOf, clusterConfig, nodeName, subnetOf } from "../synthetic-cluster.ts";
import type { ControllerSizes } from "./sizes.ts";

/** A quarter or half of a second's requests: on a busy machine some reach the cloud together that left apart. */
export const burstMargin = 5;

/** A cloud whose account lets the budget's rates through. It runs in this process, which does little else. */
export function simulatedCloud({ rates, delays }: ControllerSizes): VolcengineSimulator {
  const through = ({ perSecond, burst }: { perSecond: number; burst: number }) => ({
    perSecond,
    burst: burst + burstMargin,
  });
  return new VolcengineSimulator({
    vpcCIDR: clusterConfig.parentCIDR,
    nodeSubnet: "172.31.0.0/20",
    delays,
    limits: {
      reads: through(rates.read),
      writes: through(rates.write),
      addressesPerSecurityGroup: 100_000,
    },
  });
}

/** What a cluster's creation leaves in the store. */
export async function seedConfig(store: Store, sizes: ControllerSizes): Promise<string> {
  const { parentCIDR, nodePrefix } = clusterConfig;
  const { reclaimAfterMs, quarantineMs } = sizes;
  const platform = "volcengine";
  return (await initCluster(store, { parentCIDR, nodePrefix, platform, reclaimAfterMs, quarantineMs })).config
    .clusterUID;
}

/** What registering leaves in the store, beside `subnets/`. Only the nodes of `lost` have anything at the cloud. */
export async function seedNodes(
  store: Store,
  simulator: VolcengineSimulator,
  clusterUID: string,
  sizes: ControllerSizes,
  lost: number,
): Promise<void> {
  let operations: Operation[] = [];
  for (let index = 0; index < sizes.nodes; index++) {
    const node = nodeName(index);
    const atCloud = index < lost ? seedInstance(simulator, clusterUID, index, sizes) : { eniIDs: [] };
    const record: NodeRecord = {
      uid: `i-${node}`,
      instanceID: `i-${node}`,
      status: "ready",
      lastSeen: new Date().toISOString(),
      subnet: subnetOf(index),
      platform: "volcengine",
      zone: simulator.zone,
      region: simulator.region,
      network: simulator.vpcID,
      agentVersion: "bench",
      maxLeaseEnd: new Date(Date.now() + 86_400_000).toISOString(),
      pool: { size: 140, leased: sizes.leasesPerNode, free: 140 - sizes.leasesPerNode },
      ...atCloud,
    };
    const slot: SlotRecord = { node, uid: record.uid };
    operations.push(
      { put: keys.node(node), value: encode(record) },
      { put: keys.slot(subnetOf(index)), value: encode(slot) },
    );
    if (operations.length + 2 <= store.capabilities.maxOperations && index + 1 < sizes.nodes) continue;
    await store.txn({ then: operations });
    operations = [];
  }
}

function seedInstance(
  simulator: VolcengineSimulator,
  clusterUID: string,
  index: number,
  { enisPerNode, addressesPerEni }: ControllerSizes,
): Pick<NodeRecord, "eniIDs"> & { readonly subnetID: string } {
  const instanceID = `i-${nodeName(index)}`;
  const cluster = { "cocoon-net:cluster": clusterUID };
  const tags = { ...cluster, "cocoon-net:node": nodeName(index), "cocoon-net:instance": instanceID };
  simulator.addInstance({ instanceID });
  const subnetID = simulator.addSubnet({ cidr: subnetOf(index), tags: cluster });
  const eniIDs = Array.from({ length: enisPerNode }, (_, eni) => {
    const first = eni * (addressesPerEni + 1);
    // The first one is the ENI's own.
    const addresses = Array.from({ length: addressesPerEni + 1 }, (__, n) => addressOf(index, first + n));
    return simulator.addEni({ subnetID, instanceID, addresses, tags }).eniID;
  });
  return { subnetID, eniIDs };
}
