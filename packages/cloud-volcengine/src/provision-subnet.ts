import {
  ConflictError,
  NotFoundError,
  overlaps,
  type ProvisionRequest,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import type { Steps } from "./eni-changes.ts";
import { subnetName, subnetOwner, subnetTags } from "./ownership.ts";
import { listSubnets } from "./reads.ts";
import { Pauses } from "./timing.ts";
import { readID, type Subnet } from "./wire.ts";

/**
 * The VPC subnet with exactly the node's CIDR: the one that is there, also after another node of the cluster
 * has left it, or a new one.
 *
 * @throws {ConflictError} when it is somebody else's, in another zone, or when another subnet overlaps it
 */
export async function ensureSubnet(steps: Steps, request: ProvisionRequest): Promise<Subnet> {
  const { api, job, signal, progress } = steps;
  const { network: vpcID, zone } = request.instance;
  const subnets = await listSubnets(api, { VpcId: vpcID }, signal);
  const existing = subnets.find((subnet) => subnet.cidr === request.subnet);
  if (existing === undefined) refuseOverlap(request.subnet, subnets);
  else refuseForeign(request, existing);

  let subnetID = existing?.subnetID;
  if (subnetID === undefined) {
    const key = request.subnet;
    progress(`creating the subnet ${subnetName(request.node)} (${request.subnet}) in ${vpcID}`);
    await job.intent("CreateSubnet", key, { vpcID, zone });
    const parameters = {
      VpcId: vpcID,
      ZoneId: zone,
      CidrBlock: request.subnet,
      SubnetName: subnetName(request.node),
      Tags: Object.entries(subnetTags(request)).map(([Key, Value]) => ({ Key, Value })),
      ClientToken: job.token("CreateSubnet", key),
    };
    subnetID = readID(await api.call("CreateSubnet", parameters, signal), "SubnetId");
    await job.done("CreateSubnet", key, { subnetID });
  }
  return await waitForSubnet(steps, subnetID, request.subnet);
}

async function waitForSubnet({ api, job, signal }: Steps, subnetID: string, cidr: string): Promise<Subnet> {
  const pauses = new Pauses(api.timing, api.timing.changeMs, signal);
  for (;;) {
    const subnet = (await listSubnets(api, { SubnetIds: [subnetID] }, signal).catch(absent)).find(
      (candidate) => candidate.subnetID === subnetID,
    );
    if (subnet?.status === "Available") return subnet;
    if (await pauses.next()) continue;
    // The same token would name the same vanished subnet for ever.
    if (subnet === undefined) await job.failed("CreateSubnet", cidr, { subnetID });
    throw new UnavailableError(
      `the subnet ${subnetID} is ${subnet?.status ?? "not to be seen"}, not Available`,
      {
        outcome: "none",
        hint: "run the command again",
      },
    );
  }
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
