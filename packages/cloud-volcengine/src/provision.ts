import {
  CocoonError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  type NodeNetwork,
  NotFoundError,
  type ProvisionRequest,
  parseAddress,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import { attachEni, deleteEni, type Steps } from "./eni-changes.ts";
import { createEni, creationKey, fillEni, tagEni } from "./eni-requests.ts";
import { eniNumber, isAdoptable, isTaggedFor } from "./ownership.ts";
import { ensureSubnet } from "./provision-subnet.ts";
import { findInstance, instanceTypeLimits, listEnis, listSecurityGroupIDs, waitForEnis } from "./reads.ts";
import { type Eni, type Instance, isChanging, type Subnet } from "./wire.ts";

/** Seen on bare-metal types, used when the API does not say: 1 + 7 ENIs, 20 secondary addresses each. */
const fallbackLimits = { enis: 8, secondariesPerEni: 20 };

/**
 * Gives the node its subnet and enough ENIs in it for `poolSize` secondary addresses. Every run looks at what
 * there is and does what is missing, so that an interrupted one is finished by the next.
 */
export async function provision(steps: Steps, request: ProvisionRequest): Promise<NodeNetwork> {
  checkRequest(request);
  const instance = await ownInstance(steps, request);
  const limits = await limitsOf(steps, instance);
  const subnet = await ensureSubnet(steps, request);
  const attached = await listEnis(steps.api, { InstanceId: instance.instanceID }, steps.signal);
  const mine = await existingEnis(steps, request, subnet);

  const others = attached.filter((eni) => !mine.some((own) => own.eniID === eni.eniID));
  const room = limits.enis - others.length;
  const enis = await completeEnis(steps, request, { subnet, attached, mine, room, limits });
  await attachAll(steps, request, enis);
  return await readBack(steps, request, subnet);
}

function checkRequest(request: ProvisionRequest): void {
  parseCidr(request.subnet, "subnet");
  if (!Number.isInteger(request.poolSize) || request.poolSize < 1) {
    throw new InvalidError(`the pool size ${request.poolSize} is not a whole number above 0`);
  }
}

async function ownInstance({ api, signal }: Steps, request: ProvisionRequest): Promise<Instance> {
  const { instanceID, network, region } = request.instance;
  if ((await api.region()) !== region) {
    throw new InvalidError(
      `the access key is used for ${await api.region()}, but this node is in ${region}`,
      {
        hint: "set VOLCENGINE_REGION",
      },
    );
  }
  const instance = await findInstance(api, instanceID, signal);
  if (instance === undefined) {
    throw new NotFoundError(`the account of this access key has no instance ${instanceID} in ${region}`, {
      hint: "use an access key of the account that owns this node",
    });
  }
  if (instance.vpcID === network) return instance;
  throw new ConflictError(`${instanceID} is in ${instance.vpcID}, its metadata says ${network}`);
}

async function limitsOf(steps: Steps, instance: Instance): Promise<typeof fallbackLimits> {
  const { api, signal, progress } = steps;
  try {
    const found = await instanceTypeLimits(api, instance.type, signal);
    if (found?.enis !== undefined && found.addressesPerEni !== undefined) {
      // The type's number counts the primary address.
      return { enis: found.enis, secondariesPerEni: found.addressesPerEni - 1 };
    }
    progress(`the limits of ${instance.type} are not known`);
  } catch (error) {
    // A key without this permission can still provision.
    if (!(error instanceof CocoonError) || error instanceof UnavailableError) throw error;
    progress(`the limits of ${instance.type} are not known: ${error.message}`);
  }
  progress(
    `assuming ${fallbackLimits.enis} ENIs with ${fallbackLimits.secondariesPerEni} secondary addresses`,
  );
  return fallbackLimits;
}

/** The node's ENIs of earlier runs, none of them in the middle of a change. */
async function existingEnis(steps: Steps, request: ProvisionRequest, subnet: Subnet): Promise<Eni[]> {
  const { api, signal, progress } = steps;
  const { instanceID } = request.instance;
  const mine: Eni[] = [];
  for (const eni of await listEnis(api, { SubnetId: subnet.subnetID }, signal)) {
    if (eni.instanceID !== undefined && eni.instanceID !== instanceID) {
      throw new ConflictError(
        `the subnet ${subnet.subnetID} (${subnet.cidr}) is in use: ${eni.eniID} is attached to ${eni.instanceID}`,
        { hint: "choose another --subnet, or release the other node first" },
      );
    }
    if (isTaggedFor(eni, instanceID)) mine.push(eni);
    else if (isAdoptable(eni, request)) mine.push(await tagEni(steps, request, eni));
    else progress(`leaving ${eni.eniID} ("${eni.name}") alone: it is not this node's`);
  }
  const ids = mine.map((eni) => eni.eniID);
  const settled = await waitForEnis(api, ids, (eni) => eni === undefined || !isChanging(eni), signal);
  return [...settled.values()].filter((eni) => ["Available", "InUse"].includes(eni.status));
}

interface Plan {
  readonly subnet: Subnet;
  readonly attached: readonly Eni[];
  readonly mine: readonly Eni[];
  /** How many ENIs of ours the instance can have. */
  readonly room: number;
  readonly limits: typeof fallbackLimits;
}

/** Fills the ENIs that there are, then creates the missing ones with their addresses inside. */
async function completeEnis(steps: Steps, request: ProvisionRequest, plan: Plan): Promise<Eni[]> {
  const { job, progress } = steps;
  const enis = [...plan.mine];
  let missing = request.poolSize - enis.reduce((sum, eni) => sum + eni.secondaryAddresses.length, 0);
  let free = plan.subnet.freeAddresses;
  for (const [index, eni] of enis.entries()) {
    const count = Math.min(missing, plan.limits.secondariesPerEni - eni.secondaryAddresses.length, free);
    if (count < 1) continue;
    const filled = await fillEni(steps, eni, count);
    enis[index] = filled;
    missing -= count;
    free -= count;
  }

  const numbers = new Set(plan.mine.map((eni) => eniNumber(request.node, eni.name)));
  const created = new Map<string, number>();
  const securityGroupIDs = missing > 0 ? await securityGroups(steps, request, plan) : [];
  let refusal: CocoonError | undefined;
  for (let number = 1; missing > 0 && enis.length + created.size < plan.room; number++) {
    if (numbers.has(number)) continue;
    // Each ENI also takes a primary address of the subnet.
    const count = Math.min(missing, plan.limits.secondariesPerEni, free - 1);
    if (count < 1) break;
    try {
      const subnetID = plan.subnet.subnetID;
      created.set(await createEni(steps, request, { number, subnetID, securityGroupIDs, count }), number);
    } catch (error) {
      if (!(error instanceof ExhaustedError)) throw error;
      progress(error.message);
      refusal = error;
      break;
    }
    missing -= count;
    free -= count + 1;
  }
  if (enis.length + created.size === 0) {
    throw (
      refusal ??
      new ExhaustedError(`${request.instance.instanceID} has no room for an ENI in ${plan.subnet.cidr}`, {
        hint: "detach ENIs that are not needed, or choose a larger subnet",
      })
    );
  }
  if (missing > 0)
    progress(`the pool is ${missing} addresses smaller than asked: limits of the instance or subnet`);

  const ready = await waitForEnis(
    steps.api,
    [...created.keys()],
    (eni) => eni !== undefined && eni.status !== "Creating",
    steps.signal,
  );
  for (const [eniID, number] of created) {
    const eni = ready.get(eniID);
    if (eni === undefined || eni.status === "Creating") {
      // The same token would name the same vanished ENI for ever.
      if (eni === undefined) await job.failed("CreateNetworkInterface", creationKey(number), { eniID });
      throw new UnavailableError(`the new ENI ${eniID} is ${eni?.status ?? "not to be seen"}`, {
        outcome: "none",
        hint: "run the command again",
      });
    }
    enis.push(eni);
  }
  return enis;
}

/** Those of the instance's primary ENI; else the first of the VPC. */
async function securityGroups(
  steps: Steps,
  request: ProvisionRequest,
  plan: Plan,
): Promise<readonly string[]> {
  const primary = plan.attached.find((eni) => eni.type === "primary");
  if (primary !== undefined && primary.securityGroupIDs.length > 0) return primary.securityGroupIDs;
  const first = (await listSecurityGroupIDs(steps.api, request.instance.network, steps.signal))[0];
  if (first !== undefined) return [first];
  throw new NotFoundError(`the VPC ${request.instance.network} has no security group`, {
    hint: "create one that allows all traffic from inside the VPC",
  });
}

/** Asks for all attachments, then waits for all. What cannot be attached is deleted. */
async function attachAll(steps: Steps, request: ProvisionRequest, enis: readonly Eni[]): Promise<void> {
  const { api, job, signal, progress } = steps;
  const { instanceID } = request.instance;
  const asked: Eni[] = [];
  let refusal: CocoonError | undefined;
  const giveUp = async (eni: Eni, error: CocoonError): Promise<void> => {
    progress(`skipping ${eni.eniID}: ${error.message}`);
    refusal = error;
    await deleteEni(steps, eni);
  };
  for (const eni of enis) {
    if (eni.status === "InUse") continue;
    progress(`attaching ${eni.eniID} (${eni.secondaryAddresses.length} addresses)`);
    try {
      await attachEni(steps, eni, instanceID);
      asked.push(eni);
    } catch (error) {
      const refused =
        error instanceof ExhaustedError || error instanceof InvalidError || error instanceof ConflictError;
      if (!refused) throw error;
      await giveUp(eni, error);
    }
  }
  const ids = asked.map((eni) => eni.eniID);
  const settled = await waitForEnis(api, ids, (eni) => eni === undefined || !isChanging(eni), signal);
  let inUse = enis.filter((eni) => eni.status === "InUse").length;
  for (const { eniID } of asked) {
    const eni = settled.get(eniID);
    if (eni?.status === "InUse") inUse++;
    else if (eni?.status === "Available") {
      await job.failed("AttachNetworkInterface", eniID, {});
      await giveUp(eni, new ConflictError(`the cloud took the attachment to ${instanceID} back`));
    } else if (eni !== undefined) {
      throw new UnavailableError(`the ENI ${eniID} stays ${eni.status}`, {
        outcome: "none",
        hint: "run the command again",
      });
    }
  }
  if (inUse === 0 && refusal !== undefined) throw refusal;
}

/** What the VPC delivers now, as it says itself. */
async function readBack(
  { api, signal }: Steps,
  request: ProvisionRequest,
  subnet: Subnet,
): Promise<NodeNetwork> {
  const { instanceID } = request.instance;
  const enis = (await listEnis(api, { SubnetId: subnet.subnetID }, signal)).filter(
    (eni) => eni.instanceID === instanceID && eni.status === "InUse" && isTaggedFor(eni, instanceID),
  );
  const addresses = enis.flatMap((eni) => eni.secondaryAddresses);
  if (addresses.length === 0) {
    throw new ExhaustedError(`no ENI in ${subnet.subnetID} delivers an address to ${instanceID}`);
  }
  return {
    addresses: addresses.sort((a, b) => parseAddress(a) - parseAddress(b)),
    subnetID: subnet.subnetID,
    eniIDs: enis.map((eni) => eni.eniID),
    nicMACs: enis.map((eni) => eni.mac),
  };
}
