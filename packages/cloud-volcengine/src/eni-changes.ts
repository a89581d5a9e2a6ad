import { ConflictError, NotFoundError, UnavailableError } from "@cocoon-net/core";
import type { Action } from "./api.ts";
import { isRefusal } from "./api-errors.ts";
import { findEnis } from "./reads.ts";
import type { Parameters } from "./signing.ts";
import type { Steps } from "./steps.ts";
import type { Eni } from "./wire.ts";

/** Where an ENI stands on the way to a change. */
type Standing = "done" | "ready" | "wait";

interface EniChange {
  readonly action: Action;
  readonly parameters: Parameters;
  /** @throws when the change can never happen */
  standing(eni: Eni | undefined): Standing;
}

/** Somebody else has done something with an ENI of ours. */
export function attachedElsewhere(message: string): ConflictError {
  return new ConflictError(message, {
    hint: "find out who attached it, detach it there, and run the command again",
  });
}

/** Asks for Available → Attaching; the caller waits for InUse. */
export async function attachEni(steps: Steps, eni: Eni, instanceID: string): Promise<void> {
  await change(steps, eni, {
    action: "AttachNetworkInterface",
    parameters: { InstanceId: instanceID, NetworkInterfaceId: eni.eniID },
    standing(now) {
      if (now === undefined)
        throw new NotFoundError(`the ENI ${eni.eniID} has vanished before it was attached`, {
          hint: "run the command again",
        });
      if (now.instanceID === instanceID && now.status !== "Detaching") return "done";
      if (now.status === "Available") return "ready";
      if (now.status === "Creating" || now.status === "Detaching") return "wait";
      throw attachedElsewhere(`the ENI ${eni.eniID} is ${now.status} on ${now.instanceID ?? "nothing"}`);
    },
  });
}

/** Asks for InUse → Detaching; the caller waits for Available. False when that was under way or done already. */
export async function detachEni(steps: Steps, eni: Eni, instanceID: string): Promise<boolean> {
  return await change(steps, eni, {
    action: "DetachNetworkInterface",
    parameters: { InstanceId: instanceID, NetworkInterfaceId: eni.eniID },
    standing(now) {
      if (now === undefined || now.status === "Detaching" || now.instanceID === undefined) return "done";
      if (now.instanceID !== instanceID) {
        throw attachedElsewhere(
          `the ENI ${eni.eniID} is attached to ${now.instanceID}, not to ${instanceID}`,
        );
      }
      return now.status === "InUse" ? "ready" : "wait";
    },
  });
}

/** Asks for Available → Deleting; the caller waits until it is gone. False when that was under way or done already. */
export async function deleteEni(steps: Steps, eni: Eni): Promise<boolean> {
  return await change(steps, eni, {
    action: "DeleteNetworkInterface",
    parameters: { NetworkInterfaceId: eni.eniID },
    standing(now) {
      if (now === undefined || now.status === "Deleting") return "done";
      if (now.instanceID !== undefined) {
        throw attachedElsewhere(`the ENI ${eni.eniID} is attached to ${now.instanceID}`);
      }
      // Error: it could not be made.
      return ["Available", "Error"].includes(now.status) ? "ready" : "wait";
    },
  });
}

/**
 * Attach, detach and delete take no ClientToken: after a lost answer or a refusal the ENI is looked at before
 * anything is asked again.
 */
async function change({ api, job }: Steps, eni: Eni, wanted: EniChange): Promise<boolean> {
  const pauses = api.pauses(api.timing.changeMs);
  const { action } = wanted;
  let now: Eni | undefined = eni;
  let recorded = false;
  let reason: unknown;
  for (;;) {
    const standing = wanted.standing(now);
    if (standing === "ready") {
      if (!recorded) await job.intent(action, eni.eniID);
      recorded = true;
      try {
        await api.call(action, wanted.parameters);
        break;
      } catch (error) {
        // NotFound: another look tells whether it is gone, or detached by somebody else.
        if (!(error instanceof UnavailableError || error instanceof NotFoundError)) {
          if (isRefusal(error)) await job.failed(action, eni.eniID);
          throw error;
        }
        reason = error;
      }
    } else if (standing === "done") {
      if (!recorded) return false;
      break;
    }
    if (!(await pauses.next())) {
      if (reason instanceof Error) throw reason;
      throw new UnavailableError(`the ENI ${eni.eniID} stays ${now?.status}`, {
        outcome: "none",
        hint: "run the command again",
      });
    }
    now = (await findEnis(api, [eni.eniID])).get(eni.eniID);
  }
  await job.done(action, eni.eniID);
  return true;
}
