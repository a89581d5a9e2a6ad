import { InvalidError } from "@cocoon-net/core";
import { isRefusal } from "./api-errors.ts";
import { addressParameters, sizeOfWanted, type Wanted } from "./eni-addresses.ts";
import { isOfJob } from "./ownership.ts";
import { listEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import { readID, type Tags } from "./wire.ts";

export interface NewEni {
  /** The step's key within the job. */
  readonly key: string;
  readonly name: string;
  readonly vpcID: string;
  readonly subnetID: string;
  readonly securityGroupIDs: readonly string[];
  /** Secondary addresses. */
  readonly wanted: Wanted;
  readonly tags: Tags;
}

const creating = "CreateNetworkInterface";

/**
 * Creates an ENI with its addresses in one call; it is Creating then. Returns its id; the same one when an earlier run
 * of the job has made it.
 */
export async function createEni(steps: Steps, eni: NewEni): Promise<string> {
  const { api, job, progress } = steps;
  const { key } = eni;
  const earlier = job.last(creating, key);
  if (earlier?.phase === "done") {
    const eniID = earlier.detail?.eniID;
    const deleted = eniID === undefined || job.last("DeleteNetworkInterface", eniID) !== undefined;
    // Made by an earlier run, and not listed yet.
    if (!deleted) return eniID;
    // The next token asks for another one.
    await job.failed(creating, key, earlier.detail);
  }
  // One token, one set of parameters: what an earlier run has asked for is asked for again.
  let given = earlier?.phase === "intent" ? parametersFrom(earlier.detail ?? {}, eni) : eni;
  progress(`creating ${eni.name} with ${sizeOfWanted(given.wanted)} addresses`);
  const gate = await api.gate(eni.vpcID);
  const ask = async (): Promise<string> => {
    await job.intent(creating, key, {
      subnetID: given.subnetID,
      securityGroupIDs: given.securityGroupIDs.join(","),
      ...detailOf(given.wanted),
    });
    const parameters = {
      SubnetId: given.subnetID,
      SecurityGroupIds: given.securityGroupIDs,
      NetworkInterfaceName: eni.name,
      ...addressParameters(given.wanted),
      Tags: tagList(eni.tags),
      ClientToken: job.token(creating, key),
    };
    const answer = await gate.together(() => api.call(creating, parameters), api.signal);
    return readID(answer, "NetworkInterfaceId");
  };
  const find = async (): Promise<string | undefined> => {
    const filter = { SubnetId: given.subnetID, NetworkInterfaceName: eni.name };
    const isDeleted = (eniID: string) => job.last("DeleteNetworkInterface", eniID) !== undefined;
    const listed = await listEnis(api, filter);
    return listed.find(({ eniID, tags }) => isOfJob(tags, job.id) && !isDeleted(eniID))?.eniID;
  };
  let eniID: string;
  try {
    eniID = await api.askOrFind(ask, find);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    await job.failed(creating, key);
    // Should creation not take addresses, they are assigned afterwards.
    const notThere =
      error instanceof InvalidError && /InvalidParameter.*PrivateIpAddress/.test(error.message);
    if (!notThere || sizeOfWanted(given.wanted) === 0) throw error;
    given = { ...given, wanted: { count: 0 } };
    eniID = await api.askOrFind(ask, find);
  }
  await job.done(creating, key, { eniID });
  return eniID;
}

/** Marks ENIs, all in one call. */
export async function tagEnis(steps: Steps, eniIDs: readonly string[], tags: Tags): Promise<void> {
  const { api, job } = steps;
  const action = "TagResources";
  const key = eniIDs.join(",");
  await job.intent(action, key);
  await api.call(action, { ResourceType: "eni", ResourceIds: eniIDs, Tags: tagList(tags) });
  await job.done(action, key);
}

function parametersFrom(detail: Readonly<Record<string, string>>, eni: NewEni): NewEni {
  const addresses = detail.addresses?.split(",");
  return {
    ...eni,
    subnetID: detail.subnetID ?? eni.subnetID,
    securityGroupIDs: detail.securityGroupIDs?.split(",") ?? eni.securityGroupIDs,
    wanted: addresses === undefined ? { count: Number(detail.count ?? 0) } : { addresses },
  };
}

function detailOf(wanted: Wanted): Readonly<Record<string, string>> {
  return "count" in wanted ? { count: String(wanted.count) } : { addresses: wanted.addresses.join(",") };
}

export function tagList(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
