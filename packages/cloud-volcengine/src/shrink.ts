import { type JobLog, type NodeNetwork, type NodeResources, UnavailableError } from "@cocoon-net/core";
import { emptyEni } from "./eni-addresses.ts";
import { deleteEmptied } from "./moved-enis.ts";
import { networkOf } from "./network.ts";
import { NodeView } from "./node-enis.ts";
import { useOf, whyNotOurs } from "./ownership.ts";
import type { Steps } from "./steps.ts";
import type { Eni } from "./wire.ts";

/**
 * Takes addresses from the node's ENIs, with one request for each ENI. An ENI that has none left stays: it takes the
 * next ones that are asked for. One that was made for addresses which were moved here is deleted then.
 */
export async function shrink(
  steps: Steps,
  target: NodeResources,
  addresses: readonly string[],
): Promise<NodeNetwork> {
  const { api, job } = steps;
  const unwanted = new Set(addresses);
  const unwantedOf = (eni: Eni): string[] =>
    eni.secondaryAddresses.filter((address) => unwanted.has(address));
  // Who has what stays here is not asked.
  const movedIn = (target.movedIn ?? []).filter((address) => unwanted.has(address));
  const view = new NodeView(api, { ...target, movedIn });
  const look = async (): Promise<Eni[]> => (await view.look()).enis.filter((eni) => isNodes(eni, target));
  let enis = await look();
  const emptied = enis.filter((eni) => {
    const { length } = eni.secondaryAddresses;
    const isEmpty = length > 0 ? unwantedOf(eni).length === length : wasEmptied(eni, job);
    return useOf(eni) === "moved" && isEmpty;
  });
  for (const eni of enis) {
    const taken = unwantedOf(eni);
    if (taken.length > 0) await emptyEni(steps, eni.eniID, taken);
  }
  const pauses = api.pauses(api.timing.changeMs);
  while (enis.some((eni) => unwantedOf(eni).length > 0)) {
    if (!(await pauses.next())) {
      const left = enis.flatMap(unwantedOf);
      throw new UnavailableError(`the cloud still shows ${left.join(", ")} on ${target.node}`, {
        outcome: "none",
        hint: "run it again",
      });
    }
    enis = await look();
  }
  await deleteEmptied(steps, emptied);
  const pool = enis.filter((eni) => useOf(eni) === "pool");
  return networkOf(pool, target.subnetID ?? pool[0]?.subnetID);
}

/** By an earlier run of the job; any other may have been made for a move that goes on. */
function wasEmptied({ eniID }: Eni, job: JobLog): boolean {
  const taken = [...job.lastOf("UnassignPrivateIpAddresses").keys()];
  return taken.some((key) => key.startsWith(`${eniID}:`));
}

function isNodes(eni: Eni, target: NodeResources): boolean {
  const use = useOf(eni);
  const attached = target.instanceID === undefined || eni.instanceID === target.instanceID;
  // An earlier run may have been about to delete it.
  const detached = use === "moved" && eni.instanceID === undefined;
  return (attached || detached) && use !== "warm" && whyNotOurs(eni, target) === undefined;
}
