import { AuthError, ConflictError, contains, parseCidr } from "@cocoon-net/core";
import { podRange } from "./alias-plan.ts";
import { type Change, converge, type Steps } from "./change.ts";
import type { SecondaryRange, Subnetwork, SubnetworkRef } from "./wire.ts";

/**
 * Makes sure that the subnetwork's secondary range {@link podRange} covers the block. A missing one is made as
 * wide as the cluster's parent CIDR, so that it covers every node to come, or as the block of a single node.
 *
 * @throws {ConflictError} when there is one that does not cover the block
 */
export async function ensurePodRange(
  steps: Steps,
  ref: SubnetworkRef,
  block: string,
  parent: string = block,
): Promise<void> {
  await converge(steps, async () => {
    const subnetwork = await steps.api.getSubnetwork(ref, steps.signal);
    const range = subnetwork.secondaryRanges.find(({ rangeName }) => rangeName === podRange);
    if (range !== undefined && !contains(parseCidr(range.cidr), parseCidr(block))) {
      throw new ConflictError(
        `secondary range "${podRange}" on subnet ${ref.name} is ${range.cidr}, which does not cover --subnet ${block}`,
        { hint: "expand the range or choose a --subnet inside it" },
      );
    }
    return {
      found: undefined,
      change: range === undefined ? creation(steps, subnetwork, parent) : undefined,
    };
  });
}

function creation({ api, signal }: Steps, subnetwork: Subnetwork, block: string): Change {
  const { project, region, name } = subnetwork.ref;
  const added: SecondaryRange = { rangeName: podRange, cidr: block, reservedInternalRange: undefined };
  const ranges = [...subnetwork.secondaryRanges, added];
  return {
    action: "subnetworks.patch",
    key: podRange,
    what: `adding the secondary range ${podRange} ${block} to subnet ${name}`,
    request: [subnetwork.fingerprint, ranges],
    detail: { subnetwork: name, range: block },
    place: { project, region },
    async ask(requestID) {
      try {
        return await api.setSecondaryRanges(subnetwork, ranges, requestID, signal);
      } catch (error) {
        if (!(error instanceof AuthError)) throw error;
        throw new AuthError(error.message, {
          cause: error,
          hint:
            `grant it, or add the range yourself: gcloud compute networks subnets update ${name} ` +
            `--region ${region} --add-secondary-ranges ${podRange}=${block}`,
        });
      }
    },
  };
}
