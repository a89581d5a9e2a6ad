import {
  CocoonError,
  ConflictError,
  ExhaustedError,
  formatAddress,
  hostRange,
  InvalidError,
  type NodeNetwork,
  NotFoundError,
  type ProvisionRequest,
  parseCidr,
} from "@cocoon-net/core";
import { changeAliases, firstNic } from "./alias-change.ts";
import { bindGoal, podRange } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { holdersOf } from "./holders.ts";
import { type InstanceRef, parseInstanceRef } from "./instance-ref.ts";
import { ensurePodRange } from "./pod-range.ts";
import { formatSubnetworkRef, type SubnetworkRef } from "./wire.ts";

/**
 * Binds the node's block to its instance as one alias range. Every run looks at what there is and does what is
 * missing, so that an interrupted one is finished by the next.
 */
export async function provision(steps: Steps, request: ProvisionRequest): Promise<NodeNetwork> {
  const addresses = poolOf(request, steps.progress);
  const ref = refOf(request);
  const subnetwork = await ownSubnetwork(steps, ref);
  await ensurePodRange(steps, subnetwork, request.subnet, request.parentCIDR);
  let instance: Awaited<ReturnType<typeof changeAliases>>;
  try {
    instance = await changeAliases(steps, ref, bindGoal(request.subnet));
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    throw await nameHolders(steps, ref, subnetwork, request.subnet, error);
  }
  if (instance === undefined) throw missing(ref);
  return {
    addresses,
    subnetID: formatSubnetworkRef(subnetwork),
    eniIDs: [],
    nicMACs: [],
    aliasRangeName: podRange,
  };
}

/**
 * An alias delivers the whole block; the pool is its host addresses but the first, which is the bridge's gateway by
 * default.
 */
function poolOf(request: ProvisionRequest, progress: Steps["progress"]): string[] {
  const block = parseCidr(request.subnet, "subnet");
  if (!Number.isInteger(request.poolSize) || request.poolSize < 1) {
    throw new InvalidError(`the pool size ${request.poolSize} is not a whole number above 0`);
  }
  const { first, last } = hostRange(block);
  const pool: string[] = [];
  for (let address = first + 1; address <= last && pool.length < request.poolSize; address++) {
    pool.push(formatAddress(address));
  }
  if (pool.length === 0) throw new ExhaustedError(`the subnet ${request.subnet} has no address for a VM`);
  const lacking = request.poolSize - pool.length;
  if (lacking > 0)
    progress(`the pool is ${lacking} addresses smaller than asked: ${request.subnet} has no more`);
  return pool;
}

function refOf(request: ProvisionRequest): InstanceRef {
  const ref = parseInstanceRef(request.instance.instanceID);
  if (ref !== undefined) return ref;
  throw new InvalidError(`"${request.instance.instanceID}" is not a Compute Engine instance`, {
    hint: "give PROJECT/ZONE/NAME/NUMERIC-ID, as describeSelf does",
  });
}

async function ownSubnetwork({ api, signal }: Steps, ref: InstanceRef): Promise<SubnetworkRef> {
  const instance = await api.getInstance(ref, signal);
  if (instance === undefined) throw missing(ref);
  const { subnetwork } = firstNic(instance);
  if (subnetwork !== undefined) return subnetwork;
  throw new InvalidError(`the instance ${ref.name} is in a legacy network, which has no alias ranges`, {
    hint: "use a VPC-native network",
  });
}

function missing({ project, zone, name, id }: InstanceRef): NotFoundError {
  return new NotFoundError(`the project ${project} has no instance ${name} (${id}) in ${zone}`, {
    hint: "use credentials of the project that owns this node",
  });
}

/** The API does not say who has the block. */
async function nameHolders(
  { api, signal }: Steps,
  ref: InstanceRef,
  subnetwork: SubnetworkRef,
  block: string,
  conflict: ConflictError,
): Promise<ConflictError> {
  let holders: readonly string[] = [];
  try {
    const instances = await api.listInstances(ref.project, signal);
    const found = holdersOf(ref.project, instances, block, subnetwork);
    holders = found.filter(({ instance }) => instance.id !== ref.id).map(({ evidence }) => evidence);
  } catch (error) {
    if (!(error instanceof CocoonError)) throw error;
  }
  if (holders.length === 0) return conflict;
  return new ConflictError(`${conflict.message} (${holders.join("; ")})`, {
    cause: conflict,
    hint: "drain or reclaim that node, or choose another --subnet",
  });
}
