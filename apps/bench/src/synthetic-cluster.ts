import {
  type ClusterConfig,
  clusterConfigSchema,
  decode,
  encode,
  formatAddress,
  keys,
  type LeaseRecord,
  parseAddress,
} from "@cocoon-net/core";

/** A cluster whose every name, address and lease follows from a number, so that processes need not share it. */

const base = parseAddress("10.64.0.0");

export const clusterConfig: ClusterConfig = decode(clusterConfigSchema, {
  key: keys.config,
  value: encode({
    parentCIDR: "10.64.0.0/11",
    nodePrefix: 24,
    platform: "none",
    clusterUID: "00000000-0000-0000-0000-000000000000",
    schema: 1,
  }),
});

export function nodeName(index: number): string {
  return `node-${String(index).padStart(4, "0")}`;
}

export function subnetOf(index: number): string {
  return `${formatAddress(base + index * 256)}/24`;
}

export function addressOf(index: number, lease: number): string {
  return formatAddress(base + index * 256 + 2 + lease);
}

/** `generation` grows with each renewal: expiry and grant number differ, as they do when a guest renews. */
export function leaseOf(index: number, lease: number, generation: number): LeaseRecord {
  const hex = (index * 256 + lease).toString(16).padStart(6, "0");
  return {
    node: nodeName(index),
    mac: `52:54:00:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}`,
    expiry: new Date(1_800_000_000_000 + generation * 43_200_000 + lease).toISOString(),
    vmID: `vm-${hex}`,
    seq: generation * 1_000 + lease,
  };
}

/** The numbers 0…count-1 that fall to one of several processes. */
export function shareOf(count: number, processes: number, process: number): number[] {
  return Array.from({ length: count }, (_, index) => index).filter((index) => index % processes === process);
}
