import {
  ConflictError,
  ExhaustedError,
  NotFoundError,
  overlaps,
  type ProvisionRequest,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import { isRefusal, QuotaError } from "./api-errors.ts";
import { tagList } from "./eni-requests.ts";
import { subnetName, subnetOwner, subnetTags } from "./ownership.ts";
import { listSubnets } from "./reads.ts";
import type { Steps } from "./steps.ts";
import { staleLooks } from "./timing.ts";
import { readID, type Subnet } from "./wire.ts";

export interface NodeSubnet {
  readonly subnet: Subnet;
  /** Made by this run: nobody can have an ENI in it yet. */
  readonly fresh: boolean;
}

/**
 * The VPC subnet with exactly the node's CIDR: the one that is there, also after another node of the cluster
 * has left it, or a new one.
 *
 * @throws {ConflictError} when it is somebody else's, in another zone, or when another subnet overlaps it
 */
export async function ensureSubnet(steps: Steps, request: ProvisionRequest): Promise<NodeSubnet> {
  const { api, job } = steps;
  const { network: vpcID } = request.instance;
  const subnets = await listSubnets(api, { VpcId: vpcID });
  const existing = subnets.find((subnet) => subnet.cidr === request.subnet);
  if (existing === undefined) refuseOverlap(request.subnet, subnets);
  else refuseForeign(request, existing);
  if (existing?.status === "Available") return { subnet: existing, fresh: false };
  if (existing !== undefined) {
    return { subnet: await waitForSubnet(steps, existing.subnetID, request.subnet), fresh: false };
  }

  const fresh = job.last("CreateSubnet", request.subnet) === undefined;
  const gate = await api.gate(vpcID);
  const make = async (): Promise<Subnet> => {
    for (let secondTry = false; ; secondTry = true) {
      const subnetID = await createSubnet(steps, request, subnets.length);
      try {
        // The VPC is Pending as long as the subnet is.
        return await waitForSubnet(steps, subnetID, request.subnet);
      } catch (error) {
        if (secondTry || !(error instanceof VanishedError)) throw error;
      }
    }
  };
  return { subnet: await gate.alone(make, api.signal), fresh };
}

async function createSubnet(steps: Steps, request: ProvisionRequest, present: number): Promise<string> {
  const { api, job, progress } = steps;
  const { network: vpcID, zone } = request.instance;
  const action = "CreateSubnet";
  const key = request.subnet;
  progress(`creating the subnet ${subnetName(request.node)} (${request.subnet}) in ${vpcID}`);
  await job.intent(action, key, { vpcID, zone });
  const parameters = {
    VpcId: vpcID,
    ZoneId: zone,
    CidrBlock: request.subnet,
    SubnetName: subnetName(request.node),
    Tags: tagList(subnetTags(request)),
    ClientToken: job.token(action, key),
  };
  const find = async (): Promise<string | undefined> => {
    const subnets = await listSubnets(api, { VpcId: vpcID });
    return subnets.find((subnet) => subnet.cidr === request.subnet)?.subnetID;
  };
  let subnetID: string;
  try {
    subnetID = await api.askOrFind(async () => readID(await api.call(action, parameters), "SubnetId"), find);
  } catch (error) {
    if (isRefusal(error)) await job.failed(action, key);
    if (!(error instanceof QuotaError)) throw error;
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new ExhaustedError(`${error.message} (in use: ${present} subnets of ${vpcID})`, {
      cause: error,
      ...hint,
    });
  }
  await job.done(action, key, { subnetID });
  return subnetID;
}

/** The cloud has taken the subnet back. */
class VanishedError extends UnavailableError {}

async function waitForSubnet({ api, job }: Steps, subnetID: string, cidr: string): Promise<Subnet> {
  const pauses = api.pauses(api.timing.changeMs);
  let status: string | undefined;
  let missed = 0;
  // A subnet takes about a second; a look before that is in vain.
  let atLeastMs = 2 * api.timing.firstPauseMs;
  for (; missed < staleLooks && (await pauses.next(atLeastMs)); atLeastMs = 0) {
    const found = await listSubnets(api, { SubnetIds: [subnetID] }).catch(absent);
    const subnet = found.find((candidate) => candidate.subnetID === subnetID);
    if (subnet?.status === "Available") return subnet;
    if (subnet === undefined && status !== undefined) missed++;
    status = subnet?.status ?? status;
  }
  const hint = { outcome: "none", hint: "run the command again" } as const;
  if (status !== undefined && missed === 0) {
    throw new UnavailableError(`the subnet ${subnetID} is ${status}, not Available`, hint);
  }
  // The same token would name the same vanished subnet for ever.
  await job.failed("CreateSubnet", cidr, { subnetID });
  throw new VanishedError(`the subnet ${subnetID} is not to be seen`, hint);
}

function absent(error: unknown): Subnet[] {
  if (error instanceof NotFoundError) return [];
  throw error;
}

function refuseForeign(request: ProvisionRequest, subnet: Subnet): void {
  const owner = subnetOwner(request, subnet);
  if (owner !== undefined) {
    throw new ConflictError(`the subnet ${subnet.subnetID} (${subnet.cidr}) belongs to ${owner}`, {
      hint: "choose another --subnet, or delete it",
    });
  }
  if (subnet.zone !== request.instance.zone) {
    throw new ConflictError(
      `the subnet ${subnet.subnetID} (${subnet.cidr}) is in ${subnet.zone}, this node in ${request.instance.zone}`,
      { hint: "choose another --subnet, or delete it" },
    );
  }
}

function refuseOverlap(wanted: string, subnets: readonly Subnet[]): void {
  const clash = subnets.find((subnet) => overlaps(parseCidr(subnet.cidr), parseCidr(wanted)));
  if (clash === undefined) return;
  throw new ConflictError(
    `${wanted} overlaps the subnet ${clash.subnetID} (${clash.cidr}, "${clash.name}")`,
    {
      hint: "choose another --subnet",
    },
  );
}
