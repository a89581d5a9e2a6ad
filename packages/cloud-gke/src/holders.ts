import { type AddressSet, type Cidr, parseCidr } from "@cocoon-net/core";
import { formatAlias } from "./alias-plan.ts";
import { formatInstanceRef } from "./instance-ref.ts";
import { formatSubnetworkRef, type Instance, type SubnetworkRef } from "./wire.ts";

export interface Holder {
  readonly instance: Instance;
  /** What it holds, all of it. */
  readonly block: Cidr;
  /** For people: which alias, on what. */
  readonly evidence: string;
}

/**
 * Instances of the project with an alias that brings any of these addresses. Where the nodes' subnetwork is known, only its
 * interfaces count: elsewhere, the same addresses may be another VPC's.
 */
export function holdersOf(
  project: string,
  instances: readonly Instance[],
  addresses: AddressSet,
  subnetwork: SubnetworkRef | undefined,
): Holder[] {
  const wanted = subnetwork && formatSubnetworkRef(subnetwork);
  return instances.flatMap((instance) =>
    instance.nics.flatMap((nic) => {
      if (wanted !== undefined && nic.subnetwork && formatSubnetworkRef(nic.subnetwork) !== wanted) return [];
      return nic.aliases
        .map((alias) => ({ alias, block: parseCidr(alias.cidr) }))
        .filter(({ block }) => addresses.overlaps(block))
        .map(({ alias, block }) => ({
          instance,
          block,
          evidence: `${formatAlias(alias)} is on ${formatInstanceRef({ project, ...instance })}`,
        }));
    }),
  );
}
