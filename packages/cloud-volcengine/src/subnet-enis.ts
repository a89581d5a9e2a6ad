import { ConflictError, type ProvisionRequest } from "@cocoon-net/core";
import { isAdoptable, isMovedFor, isTaggedFor, isWarmFor } from "./ownership.ts";
import type { Need } from "./plan.ts";
import type { Eni } from "./wire.ts";

/** What the ENIs in a node's subnet are to the node. */
export interface SortedEnis {
  readonly mine: readonly Eni[];
  /** Left by an earlier node, to be taken over where they are needed. */
  readonly warm: readonly Eni[];
  /** Made for the node before ENIs were tagged. */
  readonly unmarked: readonly Eni[];
}

/** @throws {ConflictError} when another instance has an ENI there, or somebody an address that is asked for by name */
export function sortEnis(
  listed: readonly Eni[],
  request: ProvisionRequest,
  progress: (message: string) => void,
): SortedEnis {
  const { instance, tags, subnet, addresses = [] } = request;
  const away = new Set(request.movedAway);
  const [mine, warm, unmarked]: [Eni[], Eni[], Eni[]] = [[], [], []];
  for (const eni of listed) {
    if (eni.instanceID !== undefined && eni.instanceID !== instance.instanceID) {
      const isAway =
        eni.secondaryAddresses.length > 0 && eni.secondaryAddresses.every((address) => away.has(address));
      if (isAway || isMovedFor(eni, tags)) continue;
      throw new ConflictError(
        `the subnet ${eni.subnetID} (${subnet}) is in use: ${eni.eniID} is attached to ${eni.instanceID}`,
        { hint: "choose another --subnet, or release the other node first" },
      );
    }
    if (isWarmFor(eni, tags)) warm.push(eni);
    else if (isTaggedFor(eni, instance.instanceID)) mine.push(eni);
    else if (isAdoptable(eni, request)) unmarked.push(eni);
    else progress(`leaving ${eni.eniID} ("${eni.name}") alone: it is not this node's`);
  }
  const ours = new Set([...mine, ...warm, ...unmarked]);
  for (const eni of listed) {
    // An ENI's primary address is never a VM's.
    const others = ours.has(eni) ? [eni.primaryAddress] : [eni.primaryAddress, ...eni.secondaryAddresses];
    const held = addresses.find((address) => others.includes(address));
    if (held !== undefined) {
      throw new ConflictError(`${held} is in use: ${eni.eniID} has it`, { hint: "ask for other addresses" });
    }
  }
  return { mine, warm, unmarked };
}

/** As few as do: those with what is asked for by name first, then the fullest. They only have to be attached. */
export function chooseWarm(
  warm: readonly Eni[],
  need: Need,
  room: { readonly slots: number; readonly perEni: number },
): Eni[] {
  const names = new Set(need.addresses);
  const size = (eni: Eni): number => eni.secondaryAddresses.length;
  const named = (eni: Eni): number => eni.secondaryAddresses.filter((address) => names.has(address)).length;
  const fitting = warm.filter(
    (eni) => eni.status === "Available" && size(eni) > 0 && size(eni) <= room.perEni,
  );
  const chosen: Eni[] = [];
  let missing = need.count + need.addresses.length;
  for (const eni of fitting.sort((a, b) => named(b) - named(a) || size(b) - size(a))) {
    if (chosen.length >= room.slots || missing <= 0) break;
    chosen.push(eni);
    missing -= size(eni);
  }
  return chosen;
}
