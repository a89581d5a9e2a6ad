import { sizeOfWanted, type Wanted } from "./eni-addresses.ts";

/** What a node's addresses need, and where there is room for them. */
export interface Need {
  /** Addresses that are asked for by name and not there. */
  readonly addresses: readonly string[];
  /** How many more, whichever. */
  readonly count: number;
}

export interface Room {
  /** ENIs of the node with the number of addresses that each can still take; they are filled first. */
  readonly enis: readonly { readonly eniID: string; readonly free: number }[];
  /** How many ENIs can still be made, and what each then takes. */
  readonly newEnis: number;
  readonly perEni: number;
  /** Addresses that are free in the subnet; a new ENI takes one for itself. */
  readonly freeInSubnet: number;
}

export interface Plan {
  readonly fills: readonly { readonly eniID: string; readonly wanted: Wanted }[];
  readonly creations: readonly Wanted[];
}

/**
 * The fewest requests that bring a node as near to what it needs as the room allows. Addresses by name and by number
 * exclude each other in one request.
 */
export function planRequests(need: Need, room: Room): Plan {
  const fills: { eniID: string; wanted: Wanted }[] = [];
  const creations: Wanted[] = [];
  let free = room.freeInSubnet;
  let names = [...need.addresses];
  let count = need.count;
  const takeNames = (most: number): Wanted | undefined => {
    const addresses = names.slice(0, Math.max(0, most));
    if (addresses.length === 0) return undefined;
    names = names.slice(addresses.length);
    free -= addresses.length;
    return { addresses };
  };
  const takeCount = (most: number): Wanted | undefined => {
    const some = Math.min(count, most);
    if (some < 1) return undefined;
    count -= some;
    free -= some;
    return { count: some };
  };
  // The roomiest first: fewer requests, where a few ENIs can take it all.
  for (const eni of [...room.enis].sort((a, b) => b.free - a.free)) {
    let left = eni.free;
    for (const take of [takeNames, takeCount]) {
      const wanted = take(Math.min(left, free));
      if (wanted === undefined) continue;
      fills.push({ eniID: eni.eniID, wanted });
      left -= sizeOfWanted(wanted);
    }
  }
  while (creations.length < room.newEnis) {
    const most = Math.min(room.perEni, free - 1);
    const wanted = takeNames(most) ?? takeCount(most);
    if (wanted === undefined) break;
    free -= 1;
    creations.push(wanted);
  }
  return { fills, creations };
}
