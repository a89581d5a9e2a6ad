import {
  type AddressRange,
  AddressSet,
  type Cidr,
  contains,
  formatAddress,
  hostRange,
  type NodeNetwork,
  type NodeResources,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { firstNic } from "./alias-change.ts";
import { isOurs } from "./alias-plan.ts";
import { isPodRange } from "./pod-range-names.ts";
import { type AliasRange, formatSubnetworkRef, type Instance } from "./wire.ts";

/** What is a node's by the record: its block, and what was moved to it. */
export function blocksOf({ subnet, movedIn = [] }: NodeResources): Cidr[] {
  return [parseCidr(subnet, "subnet"), ...singles(movedIn)];
}

/** Addresses as blocks. @throws {InvalidError} */
export function singles(addresses: readonly string[]): Cidr[] {
  return addresses.map((address) => ({ base: parseAddress(address), prefix: 32 }));
}

/** What VMs may have of a block: its host addresses but the first, which is the bridge's gateway by default. */
export function guestRange(block: Cidr): AddressRange {
  const { first, last } = hostRange(block);
  return { first: first + 1, last };
}

/** The addresses of the block that these aliases deliver. */
export function deliveredOf(aliases: readonly AliasRange[], block: Cidr): AddressSet {
  const ours = aliases.filter(({ rangeName }) => isPodRange(rangeName));
  return new AddressSet(ours.map(({ cidr }) => parseCidr(cidr))).intersect(new AddressSet([block]));
}

/** What the instance has of what is the node's by the record. */
export function networkOf(instance: Instance | undefined, resources: NodeResources): NodeNetwork {
  const nic = instance && firstNic(instance);
  const aliases = nic?.aliases ?? [];
  const [subnet, ...moved] = blocksOf(resources);
  const usable = new AddressSet(moved);
  if (subnet !== undefined) {
    const { first, last } = guestRange(subnet);
    if (first <= last) usable.add({ first, last });
  }
  const delivered = blocksOf(resources).map((block) => deliveredOf(aliases, block));
  const addresses = delivered.reduce((all, one) => all.union(one), new AddressSet()).intersect(usable);
  const own = aliases.find((alias) => subnet !== undefined && isOurs(alias, [subnet]));
  return {
    addresses: [...addresses].map(formatAddress),
    ...(nic?.subnetwork === undefined ? {} : { subnetID: formatSubnetworkRef(nic.subnetwork) }),
    eniIDs: [],
    nicMACs: [],
    ...(own?.rangeName === undefined ? {} : { aliasRangeName: own.rangeName }),
  };
}

/** Whether an address lies in a block. */
export function holds(block: Cidr, address: number): boolean {
  return contains(block, { base: address, prefix: 32 });
}
