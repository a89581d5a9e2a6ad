import {
  AddressSet,
  type Cidr,
  InvalidError,
  type MoveRequest,
  type NodeResources,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { firstNic, settle } from "./alias-change.ts";
import { type AliasGoal, shapeGoal } from "./alias-plan.ts";
import type { GceApi } from "./api.ts";
import type { Steps } from "./change.ts";
import { type Holder, holdersOf } from "./holders.ts";
import { type InstanceRef, parseInstanceRef } from "./instance-ref.ts";
import { deliveredOf, holds, singles } from "./node-addresses.ts";
import { podRangeOf } from "./pod-range.ts";
import { instanceRefOf, missing, subnetworkOf } from "./provision.ts";
import { formatSubnetworkRef, type Instance, type SubnetworkRef } from "./wire.ts";

/** One of the two nodes, and what its aliases shall be. */
export interface Side {
  readonly ref: InstanceRef;
  readonly instance: Instance;
  readonly before: AliasGoal;
  readonly after: AliasGoal;
}

export interface MovePlan {
  /** The address, as a block. */
  readonly single: Cidr;
  readonly subnetwork: SubnetworkRef;
  readonly projects: ReadonlySet<string>;
  /** Undefined when it has no instance, or that is gone, and its aliases with it. */
  readonly from: Side | undefined;
  /** Undefined when that is gone. */
  readonly to: Side | undefined;
  /** Somebody else has the address. */
  readonly taken: Holder | undefined;
}

/**
 * What is to become of the aliases of both nodes, judged by what the cloud shows and not by how far an earlier run has
 * come: the home node has all of its block that no other node serves, in as few aliases as there can be.
 *
 * @throws {InvalidError} {@link NotFoundError}
 */
export async function planOf(steps: Steps, request: MoveRequest): Promise<MovePlan> {
  const { from, to } = request;
  const single: Cidr = { base: parseAddress(request.address), prefix: 32 };
  const toRef = instanceRefOf(request.instance.instanceID);
  const fromRef = parseInstanceRef(from.instanceID ?? "");
  const home = homeOf(request, single);
  // What another job has started may still land, also where this one finds nothing to do.
  await settle(steps, fromRef === undefined ? [toRef] : [fromRef, toRef]);
  const target = await steps.api.getInstance(toRef);
  const source = fromRef && (await steps.api.getInstance(fromRef));
  const either = target ?? source;
  if (either === undefined) throw missing(toRef);
  const subnetwork = subnetworkOf(either);
  if (source !== undefined && target !== undefined) requireSameSubnetwork(source, target);
  const rangeName = podRangeOf(await steps.api.getSubnetwork(subnetwork), single);
  if (rangeName === undefined) {
    throw new InvalidError(`${request.address} is in no pod range of the subnet ${subnetwork.name}`, {
      hint: "provision the node whose address it is first",
    });
  }
  const projects = new Set([toRef.project, ...(fromRef === undefined ? [] : [fromRef.project])]);
  const parties = { home: home === to ? target : home === from ? source : undefined, source, target };
  const block = home && parseCidr(home.subnet, "subnet");
  const served = await servedElsewhere(steps.api, projects, subnetwork, single, block, home, parties);

  const none = new AddressSet();
  const others = new AddressSet(block === undefined ? [] : [block]).subtract(served.elsewhere);
  const sideOf = (node: NodeResources, ref: InstanceRef, instance: Instance): Side => {
    const isHome = node === home && block !== undefined;
    const without = shapeGoal(isHome ? block : single, rangeName, isHome ? others : none);
    const own = new AddressSet([single]).union(isHome ? others : none);
    const withIt = served.taken ? without : shapeGoal(isHome ? block : single, rangeName, own);
    const [before, after] = node === to ? [without, withIt] : [withIt, without];
    return { ref, instance, before, after };
  };
  return {
    single,
    subnetwork,
    projects,
    from: source && fromRef && sideOf(from, fromRef, source),
    to: target && sideOf(to, toRef, target),
    taken: served.taken,
  };
}

/** The node whose block the address is of; undefined when it is moved on between two others. */
function homeOf({ from, to, address }: MoveRequest, single: Cidr): NodeResources | undefined {
  const home = [from, to].find(({ subnet }) => holds(parseCidr(subnet, "subnet"), single.base));
  if (home !== undefined || from.movedIn?.includes(address)) return home;
  throw new InvalidError(
    `${address} is an address of neither ${from.node} (${from.subnet}) nor ${to.node} (${to.subnet})`,
    { hint: "name the node that has it" },
  );
}

function requireSameSubnetwork(source: Instance, target: Instance): void {
  const [one, other] = [source, target].map((instance) => formatSubnetworkRef(subnetworkOf(instance)));
  if (one === other) return;
  throw new InvalidError(
    `${source.name} is in ${one} and ${target.name} in ${other}: an alias belongs to one subnet`,
    { hint: "choose a node of the same subnet" },
  );
}

/** Which addresses of the home block, beside the one that is moved, other nodes serve; and who has taken that one. */
async function servedElsewhere(
  api: GceApi,
  projects: ReadonlySet<string>,
  subnetwork: SubnetworkRef,
  single: Cidr,
  block: Cidr | undefined,
  node: NodeResources | undefined,
  { home, source, target }: Readonly<Record<"home" | "source" | "target", Instance | undefined>>,
): Promise<{ readonly elsewhere: AddressSet; readonly taken: Holder | undefined }> {
  const has = (instance: Instance | undefined, what: Cidr) =>
    instance === undefined ? new AddressSet() : deliveredOf(firstNic(instance).aliases, what);
  const asked = block ?? single;
  const parties = [source, target].filter((instance) => instance !== undefined);
  const atHome = has(home, asked);
  let elsewhere = new AddressSet([single, ...singles(node?.movedAway ?? [])]);
  for (const party of parties) {
    if (party !== home) elsewhere = elsewhere.union(has(party, asked));
  }
  const isUnexplained = home !== undefined && !atHome.union(elsewhere).has(asked);
  const isNowhere = parties.every((instance) => has(instance, single).size === 0);
  let taken: Holder | undefined;
  if (isUnexplained || isNowhere) {
    // Not on record, or left so by an earlier run: the cloud knows who has it.
    for (const holder of await holdersIn(api, projects, subnetwork, new AddressSet([asked]))) {
      if (parties.some(({ id }) => id === holder.instance.id)) continue;
      elsewhere.add(holder.block);
      if (isNowhere && holds(holder.block, single.base)) taken = holder;
    }
  }
  // What the home node delivers is not moved away, whatever the record or a late list says.
  elsewhere = elsewhere.subtract(atHome);
  elsewhere.add(single);
  return { elsewhere, taken };
}

export async function holdersIn(
  api: GceApi,
  projects: ReadonlySet<string>,
  subnetwork: SubnetworkRef,
  addresses: AddressSet,
): Promise<Holder[]> {
  const found: Holder[] = [];
  for (const project of projects) {
    found.push(...holdersOf(project, await api.listInstances(project), addresses, subnetwork));
  }
  return found;
}
