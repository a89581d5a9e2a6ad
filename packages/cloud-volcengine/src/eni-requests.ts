import { type ProvisionRequest, UnavailableError } from "@cocoon-net/core";
import type { Steps } from "./eni-changes.ts";
import { eniName, eniTags } from "./ownership.ts";
import { findEnis } from "./reads.ts";
import { type Eni, readID, type Tags } from "./wire.ts";

/** What makes and fills ENIs: the requests that carry a ClientToken, or may simply be sent again. */

export interface NewEni {
  /** Part of the name, and the step's key within the job. */
  readonly number: number;
  readonly subnetID: string;
  readonly securityGroupIDs: readonly string[];
  /** Secondary addresses. */
  readonly count: number;
}

/** Where an ENI's creation is written down within the job. */
export function creationKey(number: number): string {
  return `eni-${number}`;
}

/** Creates an ENI with its addresses in one call; it is Creating then. Returns its id. */
export async function createEni(steps: Steps, request: ProvisionRequest, wanted: NewEni): Promise<string> {
  const { api, job, signal, progress } = steps;
  const action = "CreateNetworkInterface";
  const key = creationKey(wanted.number);
  const earlier = job.last(action, key);
  if (earlier?.phase === "done") {
    const eniID = earlier.detail?.eniID;
    const deleted = eniID === undefined || job.last("DeleteNetworkInterface", eniID) !== undefined;
    // Made by an earlier run, and not listed yet.
    if (!deleted) return eniID;
    // The next token asks for another one.
    await job.failed(action, key, earlier.detail ?? {});
  }
  // One token, one set of parameters: what an earlier run has asked for is asked for again.
  const given = earlier?.phase === "intent" ? parametersFrom(earlier.detail ?? {}, wanted) : wanted;
  const name = eniName(request.node, wanted.number);
  progress(`creating ${name} with ${given.count} addresses`);
  await job.intent(action, key, {
    subnetID: given.subnetID,
    securityGroupIDs: given.securityGroupIDs.join(","),
    count: String(given.count),
  });
  const parameters = {
    SubnetId: given.subnetID,
    SecurityGroupIds: given.securityGroupIDs,
    NetworkInterfaceName: name,
    SecondaryPrivateIpAddressCount: given.count,
    Tags: tagList(eniTags(request, job.id)),
    ClientToken: job.token(action, key),
  };
  const eniID = readID(await api.call(action, parameters, signal), "NetworkInterfaceId");
  await job.done(action, key, { eniID });
  return eniID;
}

function parametersFrom(detail: Readonly<Record<string, string>>, wanted: NewEni): NewEni {
  return {
    number: wanted.number,
    subnetID: detail.subnetID ?? wanted.subnetID,
    securityGroupIDs: detail.securityGroupIDs?.split(",") ?? wanted.securityGroupIDs,
    count: Number(detail.count ?? wanted.count),
  };
}

/** Gives an ENI `count` more addresses, and reads back what it has then. */
export async function fillEni(steps: Steps, eni: Eni, count: number): Promise<Eni> {
  const { api, job, signal, progress } = steps;
  const action = "AssignPrivateIpAddresses";
  // What it has is part of the key: a repeat after a lost answer is the same request, the next filling is not.
  const key = `${eni.eniID}:${eni.secondaryAddresses.length}+${count}`;
  progress(`adding ${count} addresses to ${eni.eniID}`);
  await job.intent(action, key, {});
  const parameters = {
    NetworkInterfaceId: eni.eniID,
    SecondaryPrivateIpAddressCount: count,
    ClientToken: job.token(action, key),
  };
  await api.call(action, parameters, signal);
  await job.done(action, key, {});
  const filled = (await findEnis(api, [eni.eniID], signal)).get(eni.eniID);
  if (filled !== undefined) return filled;
  throw new UnavailableError(`the ENI ${eni.eniID} has vanished while it was filled`, { outcome: "none" });
}

/** Marks an ENI that was made before ENIs were tagged as the node's. */
export async function tagEni(steps: Steps, request: ProvisionRequest, eni: Eni): Promise<Eni> {
  const { api, job, signal, progress } = steps;
  const tags = { ...eni.tags, ...eniTags(request, job.id) };
  progress(`taking ${eni.eniID} ("${eni.name}") over: it is attached here and named for this node`);
  await job.intent("TagResources", eni.eniID, {});
  await api.call(
    "TagResources",
    { ResourceType: "eni", ResourceIds: [eni.eniID], Tags: tagList(tags) },
    signal,
  );
  await job.done("TagResources", eni.eniID, {});
  return { ...eni, tags };
}

function tagList(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
