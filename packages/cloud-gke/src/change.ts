import { CocoonError, type JobLog, NotFoundError, Pauses, UnavailableError } from "@cocoon-net/core";
import type { AliasLimit } from "./alias-limit.ts";
import type { GceApi, OperationPlace } from "./api.ts";
import { operationFailure, StaleError } from "./api-errors.ts";
import { retryPauses } from "./timing.ts";
import type { Operation } from "./wire.ts";

/** Everything that a question needs. */
export interface Looks {
  readonly api: GceApi;
  readonly progress: (message: string) => void;
}

/** Everything that a step needs. */
export interface Steps extends Looks {
  readonly job: JobLog;
  readonly limit: AliasLimit;
}

/** One request that brings a resource nearer to what is wanted. */
export interface Change {
  readonly action: string;
  /** Distinguishes the changes of one action. */
  readonly key: string;
  /** For people: `adding X to Y`. */
  readonly what: string;
  /** Fingerprint and body: what makes it this request and no other. */
  readonly request: readonly unknown[];
  readonly detail: Readonly<Record<string, string>>;
  readonly place: OperationPlace;
  ask(requestID: string): Promise<Operation>;
}

/** What a look has found, and what is still to be changed. */
export interface Sight<T> {
  readonly found: T;
  readonly change: Change | undefined;
}

/**
 * Looks, asks for a change, waits for its operation, and looks again, until nothing is to be changed. Each request is
 * written down first, with its requestId (G11). After a lost answer or a conflict with another writer, the next look
 * decides; a request that is still the right one then goes out with the same requestId.
 *
 * @returns what the last look has found
 */
export async function converge<T>(steps: Steps, look: () => Promise<Sight<T>>): Promise<T> {
  const { api, job, progress } = steps;
  const pauses = new Pauses(retryPauses(api.timing, api.timing.changeMs, api.signal));
  const nextTry = async (reason: Error): Promise<void> => {
    if (!(await pauses.next())) throw reason;
  };
  let asked: { readonly change: Change; readonly requestID: string; readonly ended: boolean } | undefined;
  let conflicts = 0;
  for (;;) {
    const { found, change } = await look();
    if (asked !== undefined && change?.key !== asked.change.key) {
      await write(job, "done", asked.change, asked.requestID);
      asked = undefined;
    }
    if (change === undefined) return found;

    const requestID = job.token(change.action, change.key, change.request);
    if (asked?.ended) {
      // It has ended well, and is wanted again. Either somebody else has undone it, or, where the request would be the
      // same, the answer was the one to an older request of that id; then the next must have another.
      if (asked.requestID === requestID) await write(job, "failed", change, requestID);
      asked = undefined;
      await nextTry(new UnavailableError(`${change.what} does not last`, { outcome: "none" }));
      continue;
    }
    await write(job, "intent", change, requestID);
    asked = { change, requestID, ended: false };
    progress(change.what);
    let failure: CocoonError | undefined;
    try {
      failure = await run(steps, change, requestID);
    } catch (error) {
      if (!isForAnotherLook(error)) {
        // Refused for good; anything else, an abort for example, says nothing about the request.
        if (error instanceof CocoonError) await write(job, "failed", change, requestID);
        throw error;
      }
      if (error instanceof StaleError) progress(`${change.what}: somebody else was faster; looking again`);
      // The first conflict is looked at at once, later ones after a pause.
      if (!(error instanceof StaleError) || conflicts++ > 0) await nextTry(error);
      continue;
    }
    if (failure === undefined) {
      asked = { change, requestID, ended: true };
      continue;
    }
    // Another try must be another request: the answer to this one stays the same.
    await write(job, "failed", change, requestID);
    asked = undefined;
    if (!isForAnotherLook(failure)) throw failure;
    await nextTry(failure);
  }
}

/** @returns what the operation ended with; DONE is not success */
async function run({ api }: Steps, change: Change, requestID: string): Promise<CocoonError | undefined> {
  const started = await change.ask(requestID);
  const ended = started.done ? started : await api.waitFor(change.place, started.name);
  // Forgotten by the API: the next look tells.
  if (ended === undefined) return undefined;
  const { errors, httpErrorStatus } = ended;
  if (errors.length > 0) return operationFailure(change.what, errors);
  if (httpErrorStatus === undefined) return undefined;
  return operationFailure(change.what, [{ code: `HTTP ${httpErrorStatus}`, message: "no reason given" }]);
}

/** An intent that is the last thing written about the change is not written again. */
async function write(
  job: JobLog,
  phase: "intent" | "done" | "failed",
  { action, key, detail }: Change,
  requestID: string,
): Promise<void> {
  if (phase !== "intent") return await job[phase](action, key, { requestId: requestID });
  const last = job.last(action, key);
  if (last?.phase === "intent" && last.detail?.requestId === requestID) return;
  await job.intent(action, key, { requestId: requestID, ...detail });
}

/** NotFound: the look tells what is gone. */
function isForAnotherLook(error: unknown): error is CocoonError {
  return error instanceof StaleError || error instanceof UnavailableError || error instanceof NotFoundError;
}
