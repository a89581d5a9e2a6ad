import {
  AddressSet,
  type Cidr,
  CocoonError,
  ConflictError,
  ExhaustedError,
  formatAddress,
  formatCidr,
  hostRange,
  InvalidError,
  type NodeNetwork,
  NotFoundError,
  type ProvisionRequest,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { changeAliases, firstNic, type GoalFor, settle } from "./alias-change.ts";
import { bindGoal, countAfter, nextStep } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { type Holder, holdersOf } from "./holders.ts";
import { type InstanceRef, parseInstanceRef } from "./instance-ref.ts";
import { deliveredOf, guestRange, singles } from "./node-addresses.ts";
import { ensurePodRange } from "./pod-range.ts";
import { formatSubnetworkRef, type Instance, type SubnetworkRef } from "./wire.ts";

/**
 * Binds the node's block to its instance as one alias range. Every run looks at what there is and does what is
 * missing, so that an interrupted one is finished by the next. Where addresses of the block were moved to other nodes,
 * it is bound in parts, and they stay where they are.
 */
export async function provision(steps: Steps, request: ProvisionRequest): Promise<NodeNetwork> {
  const wanted = wishOf(request);
  const ref = instanceRefOf(request.instance.instanceID);
  const before = await requireInstance(steps, ref);
  const subnetwork = subnetworkOf(before);
  const { block } = wanted;
  const parent = request.parentCIDR === undefined ? undefined : parseCidr(request.parentCIDR, "parent CIDR");
  const rangeName = await ensurePodRange(steps, subnetwork, block, parent);

  const aliases = firstNic(before).aliases;
  const goalFor = goalOf(steps, ref, subnetwork, wanted, rangeName);
  const goal = await goalFor(aliases);
  const tooMany = steps.limit.excess(ref.name, aliases.length, countAfter(aliases, goal));
  if (tooMany !== undefined) throw tooMany;
  let seen: Instance | undefined = before;
  if (nextStep(aliases, goal) === undefined) {
    // What another job has started may still take the block away again; look once more when that has ended.
    await settle(steps, [ref]);
    seen = undefined;
  }
  let after: Instance | undefined;
  try {
    after = await changeAliases(steps, ref, goalFor, seen);
  } catch (error) {
    throw await explained(steps, ref, subnetwork, block, error);
  }
  if (after === undefined) throw missing(ref);
  return resultOf(steps, wanted, after, rangeName);
}

interface Wish {
  readonly block: Cidr;
  readonly poolSize: number;
  readonly addresses: AddressSet;
  readonly movedAway: AddressSet;
}

function wishOf({ subnet, poolSize, addresses = [], movedAway = [] }: ProvisionRequest): Wish {
  const block = parseCidr(subnet, "subnet");
  if (!Number.isInteger(poolSize) || poolSize < 1) {
    throw new InvalidError(`the pool size ${poolSize} is not a whole number above 0`);
  }
  const range = guestRange(block);
  if (range.first > range.last) {
    throw new ExhaustedError(`the subnet ${subnet} has no address for a VM`, {
      hint: "give it a larger subnet",
    });
  }
  const asked = addresses.map((address) => parseAddress(address));
  const hosts = hostRange(block);
  const strange = asked.find((address) => address < hosts.first || address > hosts.last);
  if (strange !== undefined) {
    throw new InvalidError(`${formatAddress(strange)} is no address for a VM of ${subnet}`);
  }
  return { block, poolSize, addresses: new AddressSet(asked), movedAway: new AddressSet(singles(movedAway)) };
}

/** The whole block but what was moved away; once it is there in parts, what is missing of it and is not somebody else's. */
function goalOf(
  steps: Steps,
  ref: InstanceRef,
  subnetwork: SubnetworkRef,
  { block, movedAway }: Wish,
  rangeName: string,
): GoalFor {
  let others: Promise<Holder[]> | undefined;
  return async (aliases) => {
    const absent = new AddressSet([block]).subtract(deliveredOf(aliases, block));
    const missing = absent.subtract(movedAway);
    if (missing.size > 0 && !absent.has(block)) {
      others ??= otherHolders(steps, ref, subnetwork, new AddressSet([block]));
      for (const holder of await others) {
        // Moves take single addresses; anything larger is somebody's mistake.
        if (holder.block.prefix < 32) throw new ConflictError(holder.evidence, { hint });
        missing.remove(holder.block);
      }
    }
    return bindGoal(aliases, block, rangeName, missing);
  };
}

const hint = "drain or reclaim that node, or choose another --subnet";

/** What was asked for by name, and of the rest the lowest. */
function resultOf({ progress }: Steps, wish: Wish, instance: Instance, rangeName: string): NodeNetwork {
  const { block, poolSize, addresses } = wish;
  const nic = firstNic(instance);
  const delivered = deliveredOf(nic.aliases, block);
  for (const address of addresses) {
    if (delivered.has(address)) continue;
    throw new ConflictError(`${formatAddress(address)} of ${formatCidr(block)} is served by another node`, {
      hint: "move it back first",
    });
  }
  const guests = delivered.intersect(new AddressSet([guestRange(block)]));
  const pool = addresses.clone();
  for (const address of guests) {
    if (pool.size >= poolSize) break;
    pool.add(address);
  }
  const lacking = poolSize - pool.size;
  if (lacking > 0) {
    progress(`the pool is ${lacking} addresses smaller than asked: ${formatCidr(block)} has no more`);
  }
  return {
    addresses: [...pool].map(formatAddress),
    subnetID: formatSubnetworkRef(subnetworkOf(instance)),
    eniIDs: [],
    nicMACs: [],
    aliasRangeName: rangeName,
  };
}

/** @throws {InvalidError} for what is no id of ours */
export function instanceRefOf(instanceID: string): InstanceRef {
  const ref = parseInstanceRef(instanceID);
  if (ref !== undefined) return ref;
  throw new InvalidError(`"${instanceID}" is not a Compute Engine instance`, {
    hint: "give PROJECT/ZONE/NAME/NUMERIC-ID, as describeSelf does",
  });
}

/** @throws {NotFoundError} when it is gone */
async function requireInstance({ api }: Steps, ref: InstanceRef): Promise<Instance> {
  const instance = await api.getInstance(ref);
  if (instance === undefined) throw missing(ref);
  return instance;
}

/** @throws {InvalidError} in a legacy network */
export function subnetworkOf(instance: Instance): SubnetworkRef {
  const { subnetwork } = firstNic(instance);
  if (subnetwork !== undefined) return subnetwork;
  throw new InvalidError(`the instance ${instance.name} is in a legacy network, which has no alias ranges`, {
    hint: "use a VPC-native network",
  });
}

export function missing({ project, zone, name, id }: InstanceRef): NotFoundError {
  return new NotFoundError(`the project ${project} has no instance ${name} (${id}) in ${zone}`, {
    hint: "use credentials of the project that owns this node",
  });
}

/** Instances, other than this one, that hold any of the addresses. */
async function otherHolders(
  { api }: Steps,
  ref: InstanceRef,
  subnetwork: SubnetworkRef,
  addresses: AddressSet,
): Promise<Holder[]> {
  const instances = await api.listInstances(ref.project);
  const holders = holdersOf(ref.project, instances, addresses, subnetwork);
  return holders.filter(({ instance }) => instance.id !== ref.id);
}

/** With what the API does not say: who has the block, how much of a quota is in use. */
async function explained(
  steps: Steps,
  ref: InstanceRef,
  subnetwork: SubnetworkRef,
  block: Cidr,
  error: unknown,
): Promise<unknown> {
  try {
    if (error instanceof ConflictError) {
      const holders = await otherHolders(steps, ref, subnetwork, new AddressSet([block]));
      const who = holders.map(({ evidence }) => evidence).filter((text) => !error.message.includes(text));
      if (who.length === 0) return error;
      return new ConflictError(`${error.message} (${who.join("; ")})`, { cause: error, hint });
    }
    if (error instanceof ExhaustedError && /ALIASES_PER_NETWORK/.test(error.message)) {
      const instances = await steps.api.listInstances(ref.project);
      const count = instances.flatMap(({ nics }) => nics).flatMap(({ aliases }) => aliases).length;
      const message = `${error.message} (the instances of ${ref.project} have ${count} alias ranges)`;
      return new ExhaustedError(message, { cause: error, hint: "have the project's limit raised" });
    }
  } catch (cause) {
    if (!(cause instanceof CocoonError)) throw cause;
  }
  return error;
}
