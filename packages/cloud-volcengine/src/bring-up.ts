import {
  type CocoonError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  UnavailableError,
} from "@cocoon-net/core";
import { attachEni, attachedElsewhere, deleteEni } from "./eni-changes.ts";
import { findEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import { staleLooks } from "./timing.ts";
import type { Eni } from "./wire.ts";

/** An ENI on its way to being InUse with its addresses. */
export interface Rising {
  readonly eniID: string;
  /** What is known of it; undefined when it was just made. */
  readonly known: Eni | undefined;
  /** Secondary addresses that it shall show. */
  readonly expected: number;
}

export interface Risen {
  /** InUse on the instance, as the cloud shows them. */
  readonly enis: readonly Eni[];
  /** Why one was given up. Unavailable: another one may do better. */
  readonly refusal: CocoonError | undefined;
  /** Made and not to be seen at the end: deleted by somebody. */
  readonly vanished: readonly string[];
}

/** How long an attachment takes, in first pauses, before one has been seen. */
const firstGuess = 4;

/**
 * Attaches each ENI as soon as it is Available and waits until all are InUse, with one look at all of them at a time.
 * What was just made and cannot be attached is deleted.
 */
export async function bringUp(steps: Steps, instanceID: string, rising: readonly Rising[]): Promise<Risen> {
  const { api, progress } = steps;
  const waiting = new Map(
    rising.map((each) => [each.eniID, { ...each, attached: 0, attachedAt: 0, stale: 0 }]),
  );
  const enis: Eni[] = [];
  /** How long an attachment takes at most, as far as it has been seen: to look before that is in vain. */
  let attachMs: number | undefined;
  let refusal: CocoonError | undefined;
  const giveUp = async (eni: Eni, error: CocoonError): Promise<void> => {
    progress(`skipping ${eni.eniID}: ${error.message}`);
    refusal = error;
    const made = waiting.get(eni.eniID)?.known === undefined;
    waiting.delete(eni.eniID);
    // VMs may have the addresses of one that was there before.
    if (made || eni.status === "Error") await deleteEni(steps, eni);
  };
  /** Does what can be done with it now. True when that has brought it on. */
  const advance = async (eni: Eni): Promise<boolean> => {
    const state = waiting.get(eni.eniID);
    if (state === undefined) return false;
    if (eni.status === "InUse" && eni.instanceID === instanceID) {
      const complete = eni.secondaryAddresses.length >= state.expected;
      if (!complete && state.stale++ < staleLooks) return false;
      enis.push(eni);
      waiting.delete(eni.eniID);
      if (state.attached > 0) attachMs = Math.min(attachMs ?? Infinity, performance.now() - state.attachedAt);
      return true;
    }
    if (eni.status === "InUse") {
      throw attachedElsewhere(`the ENI ${eni.eniID} was attached to ${eni.instanceID} by somebody else`);
    }
    if (eni.status === "Error") {
      await giveUp(eni, failedLater(`the ENI ${eni.eniID} could not be made`));
      return true;
    }
    if (eni.status !== "Available") return false;
    if (state.attached > 0) {
      if (state.stale++ < staleLooks) return false;
      await steps.job.failed("AttachNetworkInterface", eni.eniID);
      if (state.attached > 1) {
        await giveUp(eni, failedLater(`the cloud took the attachment of ${eni.eniID} back twice`));
        return true;
      }
      state.stale = 0;
    }
    progress(`attaching ${eni.eniID} (${eni.secondaryAddresses.length} addresses)`);
    try {
      await attachEni(steps, eni, instanceID);
      state.attached++;
      state.attachedAt = performance.now();
    } catch (error) {
      const refused =
        error instanceof ExhaustedError || error instanceof InvalidError || error instanceof ConflictError;
      if (!refused) throw error;
      await giveUp(eni, error);
    }
    return true;
  };

  for (const { known, expected } of rising) {
    // Whether what was just asked for is there, only another look can tell.
    if (known !== undefined && (known.status !== "InUse" || known.secondaryAddresses.length >= expected)) {
      await advance(known);
    }
  }
  /** Once all are being attached: until the last of them is to be expected. */
  const untilExpected = (): number => {
    const states = [...waiting.values()];
    if (states.some(({ attached }) => attached === 0)) return 0;
    const last = Math.max(...states.map(({ attachedAt }) => attachedAt));
    return last + (attachMs ?? firstGuess * api.timing.firstPauseMs) - performance.now();
  };
  let pauses = api.pauses(api.timing.changeMs);
  let seen = new Map<string, Eni>();
  while (waiting.size > 0 && (await pauses.next(untilExpected()))) {
    seen = await findEnis(api, [...waiting.keys()]);
    let moving = false;
    for (const eni of seen.values()) moving = (await advance(eni)) || moving;
    if (moving) pauses = api.pauses(api.timing.changeMs);
  }
  const vanished = [...waiting.keys()].filter((id) => !seen.has(id));
  const [stuck] = [...waiting.keys()].filter((id) => seen.has(id));
  if (stuck !== undefined) {
    throw new UnavailableError(`the ENI ${stuck} stays ${seen.get(stuck)?.status}`, {
      outcome: "none",
      hint: "run the command again",
    });
  }
  return { enis, refusal, vanished };
}

function failedLater(message: string): UnavailableError {
  return new UnavailableError(message, { outcome: "none", hint: "run the command again" });
}
