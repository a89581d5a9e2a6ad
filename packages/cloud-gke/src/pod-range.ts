import {
  AuthError,
  type Cidr,
  ConflictError,
  contains,
  formatCidr,
  InvalidError,
  overlaps,
  parseCidr,
  subtract,
} from "@cocoon-net/core";
import { type Change, converge, type Steps } from "./change.ts";
import { isPodRange, nextPodRange } from "./pod-range-names.ts";
import type { SecondaryRange, Subnetwork, SubnetworkRef } from "./wire.ts";

/**
 * Makes sure that one of the subnetwork's pod ranges covers the block. The first is made as wide as the cluster's
 * parent CIDR, so that it covers every node to come, or as the block of a single node. Where the parent CIDR is wider
 * than what there is, a further one covers the rest, or the part of it that makes one block.
 *
 * @returns its name
 * @throws {ConflictError} when there are some, none covers the block, and they are not this cluster's
 */
export async function ensurePodRange(
  steps: Steps,
  ref: SubnetworkRef,
  block: Cidr,
  parent: Cidr | undefined,
): Promise<string> {
  return await converge(steps, async () => {
    const subnetwork = await steps.api.getSubnetwork(ref);
    const covering = podRangeOf(subnetwork, block);
    if (covering !== undefined) return { found: covering, change: undefined };
    const taken = subnetwork.secondaryRanges.map(({ rangeName }) => rangeName);
    const rangeName = nextPodRange(taken);
    const cidr = newRange(subnetwork, block, parent);
    return { found: rangeName, change: creation(steps, subnetwork, rangeName, formatCidr(cidr)) };
  });
}

/** The pod range that covers the block. */
export function podRangeOf(subnetwork: Subnetwork, block: Cidr): string | undefined {
  return podRanges(subnetwork).find(({ cidr }) => contains(parseCidr(cidr), block))?.rangeName;
}

export function podRanges({ secondaryRanges }: Subnetwork): SecondaryRange[] {
  return secondaryRanges.filter(({ rangeName }) => isPodRange(rangeName));
}

function newRange(subnetwork: Subnetwork, block: Cidr, parent: Cidr | undefined): Cidr {
  const ranges = podRanges(subnetwork);
  if (ranges.length === 0) return parent ?? block;
  const taken = ranges.map(({ cidr }) => parseCidr(cidr));
  if (parent !== undefined && taken.some((cidr) => overlaps(cidr, parent))) {
    const free = subtract(parent, taken).find((cidr) => contains(cidr, block));
    if (free !== undefined) return free;
  }
  const names = ranges.map(({ rangeName }) => `"${rangeName}"`).join(", ");
  const cidrs = ranges.map(({ cidr }) => cidr).join(", ");
  throw new ConflictError(
    `secondary range ${names} on subnet ${subnetwork.ref.name} is ${cidrs}, ` +
      `which does not cover --subnet ${formatCidr(block)}`,
    { hint: "expand the range or choose a --subnet inside it" },
  );
}

function creation({ api }: Steps, subnetwork: Subnetwork, rangeName: string, cidr: string): Change {
  const { project, region, name } = subnetwork.ref;
  const added: SecondaryRange = { rangeName, cidr, reservedInternalRange: undefined };
  const ranges = [...subnetwork.secondaryRanges, added];
  return {
    action: "subnetworks.patch",
    key: rangeName,
    what: `adding the secondary range ${rangeName} ${cidr} to subnet ${name}`,
    request: [subnetwork.fingerprint, ranges],
    detail: { subnetwork: name, range: cidr },
    place: { project, region },
    async ask(requestID) {
      try {
        return await api.setSecondaryRanges(subnetwork, ranges, requestID);
      } catch (cause) {
        if (cause instanceof AuthError) {
          const command =
            `gcloud compute networks subnets update ${name} --region ${region} ` +
            `--add-secondary-ranges ${rangeName}=${cidr}`;
          throw new AuthError(cause.message, {
            cause,
            hint: `grant it, or add the range yourself: ${command}`,
          });
        }
        // Also where it overlaps with somebody else's range: the API says which.
        if (cause instanceof InvalidError) {
          throw new InvalidError(cause.message, {
            cause,
            hint: "choose a --subnet, or a parent CIDR for the cluster, that is free in the VPC and its peers",
          });
        }
        throw cause;
      }
    },
  };
}
