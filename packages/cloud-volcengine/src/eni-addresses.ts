import { counted, NotFoundError } from "@cocoon-net/core";
import { isRefusal } from "./api-errors.ts";
import { findEnis } from "./reads.ts";
import type { Parameters } from "./signing.ts";
import type { Steps } from "./steps.ts";
import { staleLooks } from "./timing.ts";

/** Addresses for an ENI: these, or so many as the cloud chooses. */
export type Wanted = { readonly addresses: readonly string[] } | { readonly count: number };

export function sizeOfWanted(wanted: Wanted): number {
  return "count" in wanted ? wanted.count : wanted.addresses.length;
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
    progress(`adding ${counted(sizeOfWanted(left.wanted), "address", "addresses")} to ${eniID}`);
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
    progress(`taking ${counted(left.length, "address", "addresses")} from ${eniID}`);
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
      const rest = await restAfterRefusal(steps, eniID, left);
      if (rest === undefined) throw error;
      left = rest;
    }
  }
}

/** Which of the addresses the ENI still has; undefined when it goes on showing all of them. */
async function restAfterRefusal(
  { api }: Steps,
  eniID: string,
  addresses: readonly string[],
): Promise<string[] | undefined> {
  const pauses = api.pauses(api.timing.changeMs);
  for (let look = 0; look < staleLooks; look++) {
    const still = (await findEnis(api, [eniID])).get(eniID)?.secondaryAddresses ?? [];
    const rest = addresses.filter((address) => still.includes(address));
    if (rest.length < addresses.length) return rest;
    if (!(await pauses.next())) break;
  }
  return undefined;
}

/**
 * What was done and has to be done once more, because it was undone meanwhile, needs another token: the answer to the
 * old one would be the old answer. Not for numbers of addresses: those would be given twice.
 */
async function renewToken({ job }: Steps, action: string, key: string): Promise<void> {
  if (job.last(action, key)?.phase === "done") await job.failed(action, key);
}

export function addressParameters(wanted: Wanted): Parameters {
  if ("addresses" in wanted) return { PrivateIpAddress: wanted.addresses };
  return wanted.count === 0 ? {} : { SecondaryPrivateIpAddressCount: wanted.count };
}
