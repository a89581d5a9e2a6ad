import {
  type Cloud,
  counted,
  type InstanceIdentity,
  type NodeNetwork,
  type NodeResources,
  type Registration,
} from "@cocoon-net/core";
import { bringUpLinksByMAC } from "@cocoon-net/host-linux";
import type { CommandContext } from "./command-context.ts";
import type { FileJob } from "./job-file.ts";
import type { PoolFile, RegistrationFile, StateDirectory } from "./state-directory.ts";

/** What a node's addresses at the cloud are asked for with, the first time and whenever it grows. */
export interface CloudOwner {
  readonly clusterUID?: string | undefined;
  readonly parentCIDR?: string | undefined;
}

export function ownerOf(registration: Registration | undefined): CloudOwner {
  const { clusterUID, parentCIDR } = registration?.config ?? {};
  return { clusterUID, parentCIDR };
}

/** Lets the cloud give the node `poolSize` addresses in all, and writes down what it has then. */
export async function provisionPool(
  cloud: Cloud,
  request: {
    readonly instance: InstanceIdentity;
    readonly owner: CloudOwner;
    readonly base: Omit<PoolFile, "ips" | "updatedAt">;
    readonly poolSize: number;
    /** Addresses of the subnet that other nodes serve. */
    readonly movedAway?: readonly string[];
  },
  state: StateDirectory,
  job: FileJob,
  context: CommandContext,
): Promise<{ readonly pool: PoolFile; readonly network: NodeNetwork }> {
  const { instance, owner, base, poolSize, movedAway = [] } = request;
  const network = await cloud.provision(
    {
      node: base.nodeName,
      instance,
      subnet: base.subnet,
      poolSize,
      tags: {
        "cocoon-net:node": base.nodeName,
        "cocoon-net:instance": instance.instanceID,
        ...(owner.clusterUID === undefined ? {} : { "cocoon-net:cluster": owner.clusterUID }),
      },
      ...(owner.parentCIDR === undefined ? {} : { parentCIDR: owner.parentCIDR }),
      ...(movedAway.length === 0 ? {} : { movedAway }),
    },
    job,
    { signal: context.signal, onProgress: (message) => context.say(message) },
  );
  if (network.short) {
    context.say(
      `warning: ${counted(network.short.addresses, "address", "addresses")} fewer than asked for: ${network.short.reason}`,
    );
  }
  return { pool: await recordNetwork(state, base, network, context), network };
}

/** Brings the NICs up, and writes down what the node has at the cloud. */
export async function recordNetwork(
  state: StateDirectory,
  base: Omit<PoolFile, "ips" | "updatedAt">,
  network: NodeNetwork,
  context: CommandContext,
): Promise<PoolFile> {
  const nics = await bringUpLinksByMAC(network.nicMACs, { signal: context.signal });
  return state.writePool({
    ...base,
    secondaryNICs: nics,
    ips: network.addresses.filter((address) => address !== base.gateway),
    eniIDs: network.eniIDs,
    ...(network.subnetID === undefined ? {} : { subnetID: network.subnetID }),
    ...(network.aliasRangeName === undefined ? {} : { aliasRangeName: network.aliasRangeName }),
  });
}

/** What the cloud is asked about for a node on record. */
export async function resourcesOf(
  cloud: Cloud,
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  context: CommandContext,
): Promise<NodeResources> {
  const { signal } = context;
  return {
    node: pool.nodeName,
    instanceID: registration?.instanceID ?? (await cloud.describeSelf({ signal })).instanceID,
    subnet: pool.subnet,
    ...(pool.subnetID === undefined ? {} : { subnetID: pool.subnetID }),
    eniIDs: pool.eniIDs ?? [],
  };
}
