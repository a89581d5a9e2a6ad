import { type NodeResources, NotFoundError } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { findEnis, findHolders, listEnis, listSubnets } from "./reads.ts";
import type { Eni, Subnet } from "./wire.ts";

/** What the cloud shows of a node: every ENI in its subnet, whoever owns it, and what is on record besides. */
export interface NodeEnis {
  /** Empty when no subnet with the node's CIDR is to be seen. */
  readonly subnetIDs: readonly string[];
  readonly enis: readonly Eni[];
  /** Recorded ids that are not to be seen. Gone, unless {@link NodeView.doubt} doubts it. */
  readonly vanished: readonly string[];
}

/** A second opinion on what was listed. */
export interface Witness {
  /** As the cloud counts them; empty when none is to be seen. */
  readonly subnets: readonly Subnet[];
  /** Why the list cannot be taken for all there is (G8). */
  readonly doubt: string | undefined;
}

/** Looks at the ENIs of one node, as often as is needed. */
export class NodeView {
  readonly #api: Requests;
  readonly #target: NodeResources;
  #subnets: readonly Subnet[] | undefined;

  constructor(api: Requests, target: NodeResources) {
    this.#api = api;
    this.#target = target;
  }

  async look(): Promise<NodeEnis> {
    const { eniIDs, movedIn = [], subnetID } = this.#target;
    // Who holds an address is asked per VPC.
    const subnets = subnetID === undefined || movedIn.length > 0 ? await this.#findSubnets() : [];
    const subnetIDs = subnetID === undefined ? subnets.map((subnet) => subnet.subnetID) : [subnetID];
    const enis = new Map<string, Eni>();
    const add = (found: Iterable<Eni>): void => {
      for (const eni of found) enis.set(eni.eniID, eni);
    };
    for (const id of subnetIDs) add(await listEnis(this.#api, { SubnetId: id }).catch(noneIfNotFound));
    const elsewhere = eniIDs.filter((id) => !enis.has(id));
    add((await findEnis(this.#api, elsewhere)).values());
    if (movedIn.length > 0) {
      for (const vpcID of new Set(subnets.map((subnet) => subnet.vpcID))) {
        add(await findHolders(this.#api, vpcID, movedIn));
      }
    }
    return { subnetIDs, enis: [...enis.values()], vanished: eniIDs.filter((id) => !enis.has(id)) };
  }

  /** Call it after the look, so that an ENI which was deleted meanwhile casts no doubt. */
  async witness({ subnetIDs, enis }: NodeEnis): Promise<Witness> {
    const filter = { SubnetIds: subnetIDs };
    const subnets = subnetIDs.length === 0 ? [] : await listSubnets(this.#api, filter).catch(noneIfNotFound);
    return { subnets, doubt: doubtAbout(this.#target, subnets, enis) };
  }

  /**
   * By id; by CIDR where no id is on record. The same CIDR may be in several VPCs: then all of them are looked
   * at, because any of them could be the node's.
   */
  async #findSubnets(): Promise<readonly Subnet[]> {
    if (this.#subnets !== undefined && this.#subnets.length > 0) return this.#subnets;
    const { subnetID, subnet: cidr } = this.#target;
    const filter = subnetID === undefined ? {} : { SubnetIds: [subnetID] };
    const found = await listSubnets(this.#api, filter).catch(noneIfNotFound);
    this.#subnets = subnetID === undefined ? found.filter((subnet) => subnet.cidr === cidr) : found;
    return this.#subnets;
  }
}

/**
 * Addresses that the platform may count as used in an empty subnet: the vendor does not say whether its total counts
 * the ones that nobody can have.
 */
const platformAddresses = 5;

/** The subnet's own count of used addresses is a second witness to the list of its ENIs. */
function doubtAbout(
  target: NodeResources,
  subnets: readonly Subnet[],
  enis: readonly Eni[],
): string | undefined {
  if (subnets.length === 0) {
    return `${target.subnetID ?? `the subnet ${target.subnet}`} is not to be seen with this access key and region`;
  }
  for (const { subnetID, totalAddresses, freeAddresses } of subnets) {
    if (totalAddresses === undefined) continue;
    const used = totalAddresses - freeAddresses;
    const listed = enis
      .filter((eni) => eni.subnetID === subnetID)
      .reduce((sum, eni) => sum + eni.addressCount, 0);
    if (used > listed + platformAddresses) {
      return `${subnetID} counts ${used} used addresses, its listed ENIs hold ${listed}`;
    }
  }
  return undefined;
}

function noneIfNotFound(error: unknown): never[] {
  if (error instanceof NotFoundError) return [];
  throw error;
}
