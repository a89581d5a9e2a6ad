import { InvalidError } from "@cocoon-net/core";
import { type AliasGoal, formatAlias, nextStep } from "./alias-plan.ts";
import { type Change, converge, type Steps } from "./change.ts";
import { formatInstanceRef, type InstanceRef } from "./instance-ref.ts";
import type { Instance, Nic } from "./wire.ts";

/**
 * Brings the aliases of an instance's first interface to the goal, and leaves all others as they are.
 *
 * @returns the instance as the API shows it afterwards; undefined when it is gone
 */
export async function changeAliases(
  steps: Steps,
  ref: InstanceRef,
  goal: AliasGoal,
): Promise<Instance | undefined> {
  return await converge(steps, async () => {
    const instance = await steps.api.getInstance(ref, steps.signal);
    return { found: instance, change: instance && nextChange(steps, ref, firstNic(instance), goal) };
  });
}

function nextChange({ api, signal }: Steps, ref: InstanceRef, nic: Nic, goal: AliasGoal): Change | undefined {
  const step = nextStep(nic.aliases, goal);
  if (step === undefined) return undefined;
  const names = step.changed.map(formatAlias).join(", ");
  const { project, zone, name } = ref;
  return {
    action: "instances.updateNetworkInterface",
    key: step.what,
    what: step.what === "add" ? `adding ${names} to ${name}` : `removing ${names} from ${name}`,
    request: [ref.id, nic.fingerprint, step.list],
    detail: { instance: formatInstanceRef(ref), aliases: names },
    place: { project, zone },
    ask: (requestID) => api.setAliases(ref, nic, step.list, requestID, signal),
  };
}

/**
 * Waits for what others, or an earlier run, have started on the instance: it could still add an alias after this run
 * has looked.
 */
export async function settle({ api, signal, progress }: Steps, ref: InstanceRef): Promise<void> {
  for (const { name } of await api.pendingOperations(ref, signal)) {
    progress(`waiting for ${name} on ${ref.name}`);
    await api.waitFor({ project: ref.project, zone: ref.zone }, name, signal);
  }
}

/** VMs' addresses are on nic0, as the predecessor has them. */
export function firstNic(instance: Instance): Nic {
  const nic = instance.nics.find(({ name }) => name === "nic0") ?? instance.nics[0];
  if (nic === undefined) throw new InvalidError(`the instance ${instance.name} has no network interface`);
  return nic;
}
