import { overlaps, parseCidr } from "@cocoon-net/core";
import { formatAlias } from "./alias-plan.ts";
import { formatInstanceRef } from "./instance-ref.ts";
import { formatSubnetworkRef, type Instance, type SubnetworkRef } from "./wire.ts";

export interface Holder {
  readonly instance: Instance;
  /** For people: which alias, on what. */
  readonly evidence: string;
}

/**
 * Instances of the project with an alias that shares an address with the block. Where the node's subnetwork is known, only its
 * interfaces count: elsewhere, the same addresses may be another VPC's.
 */
export function holdersOf(
  project: string,
  instances: readonly Instance[],
  block: string,
  subnetwork: SubnetworkRef | undefined,
): Holder[] {
  const wanted = subnetwork && formatSubnetworkRef(subnetwork);
  const held = parseCidr(block);
  return instances.flatMap((instance) =>
    instance.nics.flatMap((nic) => {
      if (wanted !== undefined && nic.subnetwork && formatSubnetworkRef(nic.subnetwork) !== wanted) return [];
      return nic.aliases
        .filter((alias) => overlaps(parseCidr(alias.cidr), held))
        .map((alias) => ({
          instance,
          evidence: `${formatAlias(alias)} is on ${formatInstanceRef({ project, ...instance })}`,
        }));
    }),
  );
}
