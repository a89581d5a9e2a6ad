import { type NodeNetwork, parseAddress } from "@cocoon-net/core";
import type { Eni } from "./wire.ts";

/** What the VPC delivers to a node on these ENIs. */
export function networkOf(enis: readonly Eni[], subnetID: string | undefined): NodeNetwork {
  const inUse = enis.filter((eni) => eni.status === "InUse");
  const addresses = inUse.flatMap((eni) => eni.secondaryAddresses);
  return {
    addresses: addresses.sort((a, b) => parseAddress(a) - parseAddress(b)),
    ...(subnetID === undefined ? {} : { subnetID }),
    eniIDs: inUse.map((eni) => eni.eniID).sort(),
    nicMACs: inUse.map((eni) => eni.mac),
  };
}
