import { InvalidError } from "@cocoon-net/core";
import { type AliasGoal, type AliasStep, formatAlias, nextStep } from "./alias-plan.ts";
import type { GceApi } from "./api.ts";
import { LimitError } from "./api-errors.ts";
import { type Change, converge, type Looks, type Steps } from "./change.ts";
import { formatInstanceRef, type InstanceRef } from "./instance-ref.ts";
import type { AliasRange, Instance, Nic } from "./wire.ts";

/** What the aliases of an interface shall be, seen from what they are. */
export type GoalFor = (current: readonly AliasRange[]) => AliasGoal | Promise<AliasGoal>;

/**
 * Brings the aliases of an instance's first interface to the goal, and leaves all others as they are.
 *
 * @param seen the instance as it was just read, which saves a look
 * @returns the instance as the API shows it afterwards; undefined when it is gone
 * @throws {ExhaustedError} when the API says that there would be more than the interface may have
 */
export async function changeAliases(
  steps: Steps,
  ref: InstanceRef,
  goalFor: GoalFor,
  seen?: Instance,
): Promise<Instance | undefined> {
  const { api, limit } = steps;
  let known = seen;
  let wanted = 0;
  try {
    return await converge(steps, async () => {
      const instance = known ?? (await api.getInstance(ref));
      known = undefined;
      if (instance === undefined) return { found: undefined, change: undefined };
      const nic = firstNic(instance);
      const goal = await goalFor(nic.aliases);
      const step = nextStep(nic.aliases, goal);
      if (step === undefined) return { found: instance, change: undefined };
      wanted = step.list.length;
      return { found: instance, change: changeOf(api, ref, nic, step) };
    });
  } catch (error) {
    if (error instanceof LimitError) limit.refused(wanted, error);
    throw error;
  }
}

function changeOf(api: GceApi, ref: InstanceRef, nic: Nic, step: AliasStep): Change {
  const names = step.changed.map(formatAlias).join(", ");
  const { project, zone, name } = ref;
  return {
    action: "instances.updateNetworkInterface",
    key: `${step.what} ${name}`,
    what: step.what === "add" ? `adding ${names} to ${name}` : `removing ${names} from ${name}`,
    request: [ref.id, nic.fingerprint, step.list],
    detail: { instance: formatInstanceRef(ref), aliases: names },
    place: { project, zone },
    ask: (requestID) => api.setAliases(ref, nic, step.list, requestID),
  };
}

/**
 * Waits for what others, or an earlier run, have started on the instances: it could still change them after this run
 * has looked.
 */
export async function settle({ api, progress }: Looks, refs: readonly InstanceRef[]): Promise<void> {
  const zones = new Map(refs.map(({ project, zone }) => [`${project}/${zone}`, { project, zone }]));
  const ids = new Set(refs.map(({ id }) => id));
  for (const place of zones.values()) {
    for (const { name } of await api.pendingOperations(place, ids)) {
      progress(`waiting for ${name} in ${place.zone}`);
      await api.waitFor(place, name);
    }
  }
}

/** VMs' addresses are on nic0, as the predecessor has them. */
export function firstNic(instance: Instance): Nic {
  const nic = instance.nics.find(({ name }) => name === "nic0") ?? instance.nics[0];
  if (nic === undefined) throw new InvalidError(`the instance ${instance.name} has no network interface`);
  return nic;
}
