import { type NodeNetwork, type NodeResources, UnavailableError } from "@cocoon-net/core";
import { emptyEni } from "./eni-addresses.ts";
import { networkOf } from "./network.ts";
import { NodeView } from "./node-enis.ts";
import { useOf, whyNotOurs } from "./ownership.ts";
import type { Steps } from "./steps.ts";
import type { Eni } from "./wire.ts";

/**
 * Takes addresses from the node's ENIs, with one request for each ENI. An ENI that has none left stays: it takes the
 * next ones that are asked for.
 */
export async function shrink(
  steps: Steps,
  target: NodeResources,
  addresses: readonly string[],
): Promise<NodeNetwork> {
  const { api } = steps;
  const { movedIn: _, ...own } = target;
  const view = new NodeView(api, own);
  const unwanted = new Set(addresses);
  const unwantedOf = (eni: Eni): string[] =>
    eni.secondaryAddresses.filter((address) => unwanted.has(address));
  const look = async (): Promise<Eni[]> => (await view.look()).enis.filter((eni) => isPool(eni, target));
  let enis = await look();
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
  return networkOf(enis, target.subnetID ?? enis[0]?.subnetID);
}

function isPool(eni: Eni, target: NodeResources): boolean {
  const attached = target.instanceID === undefined || eni.instanceID === target.instanceID;
  return attached && useOf(eni) === "pool" && whyNotOurs(eni, target) === undefined;
}
