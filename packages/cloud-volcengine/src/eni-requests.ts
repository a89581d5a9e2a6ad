import { InvalidError, NotFoundError } from "@cocoon-net/core";
import { isRefusal } from "./api-errors.ts";
import { isOfJob } from "./ownership.ts";
import { findEnis, listEnis } from "./reads.ts";
import type { Parameters } from "./signing.ts";
import type { Steps } from "./steps.ts";
import { readID, type Tags } from "./wire.ts";

/** What makes, fills, empties and marks ENIs: the requests that carry a ClientToken, or may simply be sent again. */

/** Addresses for an ENI: these, or so many as the cloud chooses. */
export type Wanted = { readonly addresses: readonly string[] } | { readonly count: number };

export function sizeOfWanted(wanted: Wanted): number {
  return "count" in wanted ? wanted.count : wanted.addresses.length;
}

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
    const made = (await listEnis(api, filter)).find(({ tags }) => isOfJob(tags, job.id));
    return made?.eniID;
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

/**
 * Asks for more addresses on an ENI; the caller looks until they are there.
 *
 * @param has how many secondary ones it has
 */
export async function fillEni(
  steps: Steps,
  eniID: string,
  vpcID: string,
  has: number,
  wanted: Wanted,
): Promise<void> {
  const { api, job, progress } = steps;
  const action = "AssignPrivateIpAddresses";
  const gate = await api.gate(vpcID);
  let left: { readonly has: number; readonly wanted: Wanted } = { has, wanted };
  const ask = async (): Promise<void> => {
    // What it has is part of the key: a repeat after a lost answer is the same request, the next filling is not.
    const what = "count" in left.wanted ? `${left.wanted.count}` : left.wanted.addresses.join(",");
    const key = `${eniID}:${left.has}+${what}`;
    progress(`adding ${sizeOfWanted(left.wanted)} addresses to ${eniID}`);
    if ("addresses" in left.wanted) await renewToken(steps, action, key);
    await job.intent(action, key);
    const parameters = {
      NetworkInterfaceId: eniID,
      ...addressParameters(left.wanted),
      ClientToken: job.token(action, key),
    };
    try {
      await gate.together(() => api.call(action, parameters), api.signal);
    } catch (error) {
      if (isRefusal(error)) await job.failed(action, key);
      throw error;
    }
    await job.done(action, key);
  };
  const find = async (): Promise<true | undefined> => {
    const now = (await findEnis(api, [eniID])).get(eniID)?.secondaryAddresses ?? [];
    left = restOf(now, left.has, left.wanted);
    return sizeOfWanted(left.wanted) === 0 ? true : undefined;
  };
  await api.askOrFind(async () => {
    await ask();
    return true;
  }, find);
}

/** What is still to be asked for, of an ENI that shows these addresses now. */
function restOf(
  now: readonly string[],
  had: number,
  wanted: Wanted,
): { readonly has: number; readonly wanted: Wanted } {
  if ("addresses" in wanted) {
    const addresses = wanted.addresses.filter((address) => !now.includes(address));
    return { has: had, wanted: { addresses } };
  }
  // A part of it may have been done.
  const added = Math.max(0, now.length - had);
  return { has: had + added, wanted: { count: Math.max(0, wanted.count - added) } };
}

/** Asks for addresses to be taken from an ENI, all in one call; the caller looks until they are gone. */
export async function emptyEni(
  steps: Steps,
  eniID: string,
  addresses: readonly string[],
  detail: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { api, job, progress } = steps;
  const action = "UnassignPrivateIpAddresses";
  let left = [...addresses];
  while (left.length > 0) {
    const key = `${eniID}:${left.join(",")}`;
    progress(`taking ${left.length} addresses from ${eniID}`);
    await renewToken(steps, action, key);
    await job.intent(action, key, detail);
    const parameters = {
      NetworkInterfaceId: eniID,
      PrivateIpAddress: left,
      ClientToken: job.token(action, key),
    };
    try {
      await api.call(action, parameters);
      await job.done(action, key);
      return;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await job.failed(action, key);
      const gone = error instanceof NotFoundError || /InvalidPrivateIp/.test(error.message);
      if (!gone) throw error;
      // One that is gone already may fail the whole call: the ones that are still there are asked for again.
      const still = new Set((await findEnis(api, [eniID])).get(eniID)?.secondaryAddresses);
      const rest = left.filter((address) => still.has(address));
      if (rest.length === left.length) throw error;
      left = rest;
    }
  }
}

/**
 * What was done and has to be done once more, because it was undone meanwhile, needs another token: the answer to the
 * old one would be the old answer. Not for numbers of addresses: those would be given twice.
 */
async function renewToken({ job }: Steps, action: string, key: string): Promise<void> {
  if (job.last(action, key)?.phase === "done") await job.failed(action, key);
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

function addressParameters(wanted: Wanted): Parameters {
  if ("addresses" in wanted) return { PrivateIpAddress: wanted.addresses };
  return wanted.count === 0 ? {} : { SecondaryPrivateIpAddressCount: wanted.count };
}

export function tagList(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
