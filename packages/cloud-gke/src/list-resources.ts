import {
  type CloudResource,
  type ListResourcesRequest,
  overlaps,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import { formatAlias, formatBlock } from "./alias-plan.ts";
import type { Looks } from "./change.ts";
import { formatInstanceRef } from "./instance-ref.ts";
import { podRanges } from "./pod-range.ts";
import { isPodRange } from "./pod-range-names.ts";
import { instanceRefOf } from "./provision.ts";
import { aliasID } from "./release.ts";
import { formatSubnetworkRef, type Nic, type SubnetworkRef } from "./wire.ts";

/**
 * The aliases of the project's instances that are of a pod range and in the cluster's parent CIDR, and those ranges of
 * their subnetworks. Aliases carry no tags, so this is what tells them from others.
 */
export async function listResources(
  { api }: Looks,
  request: ListResourcesRequest,
): Promise<readonly CloudResource[]> {
  const parent = parseCidr(request.parentCIDR, "parent CIDR");
  const ref = instanceRefOf(request.instance.instanceID);
  const { project } = ref;
  const instances = await api.listInstances(project);
  const witness = instances.find(({ id }) => id === ref.id);
  // G8: a list without the one instance that is known to be there shows less than there is.
  if (witness === undefined && (await api.getInstance(ref)) !== undefined) {
    throw new UnavailableError(`the list of instances of ${project} does not show ${ref.name}`, {
      outcome: "none",
      hint: "try again later",
    });
  }
  const network = witness?.nics[0]?.network;
  const isHere = (nic: Nic) => network === undefined || nic.network === undefined || nic.network === network;

  const resources: CloudResource[] = [];
  const subnetworks = new Map<string, SubnetworkRef>();
  for (const instance of instances) {
    for (const nic of instance.nics.filter(isHere)) {
      const aliases = nic.aliases.filter(
        ({ cidr, rangeName }) => isPodRange(rangeName) && overlaps(parseCidr(cidr), parent),
      );
      const isNeeded = aliases.length > 0 || instance === witness;
      if (isNeeded && nic.subnetwork !== undefined) {
        subnetworks.set(formatSubnetworkRef(nic.subnetwork), nic.subnetwork);
      }
      for (const alias of aliases) {
        resources.push({
          ...untagged,
          id: aliasID(formatAlias(alias), instance.name),
          kind: "alias",
          instanceID: formatInstanceRef({ project, ...instance }),
          addresses: [formatBlock(parseCidr(alias.cidr))],
        });
      }
    }
  }
  for (const [name, subnetwork] of subnetworks) {
    for (const { rangeName, cidr } of podRanges(await api.getSubnetwork(subnetwork))) {
      if (!overlaps(parseCidr(cidr), parent)) continue;
      resources.push({
        ...untagged,
        id: `${name}/${rangeName}`,
        kind: "subnet",
        instanceID: undefined,
        addresses: [cidr],
      });
    }
  }
  return resources;
}

const untagged = { node: undefined, madeFor: undefined, warm: false } as const;
