import { createHash } from "node:crypto";
import type { CloudJob, JobStep } from "@cocoon-net/core";
import type { Change } from "./change.ts";

/** A {@link CloudJob} with what it wrote down in earlier runs and in this one (G11). */
export class JobLog {
  readonly #job: CloudJob;
  readonly #steps: JobStep[];

  constructor(job: CloudJob) {
    this.#job = job;
    this.#steps = [...job.steps];
  }

  /** An intent that is the last thing written about the change is not written again. */
  async record(phase: JobStep["phase"], change: Change, requestID: string): Promise<void> {
    const last = this.#steps.findLast((step) => isOf(step, change));
    if (phase === "intent" && last?.phase === "intent" && last.detail?.requestId === requestID) return;
    const { action, key } = change;
    const detail = { requestId: requestID, ...(phase === "intent" ? change.detail : {}) };
    const step: JobStep = { action, phase, key, detail };
    await this.#job.record(step);
    this.#steps.push(step);
  }

  /**
   * The requestId of a change, a UUID: the same whenever the same is asked of the same state, so that a repeat in
   * this or a later run is the same request to the cloud, and a new one after a try that is known to have failed.
   */
  requestID(change: Change): string {
    const failures = this.#steps.filter((step) => isOf(step, change) && step.phase === "failed").length;
    const hash = createHash("sha256")
      .update(JSON.stringify([this.#job.id, change.action, change.key, failures, change.request]))
      .digest("hex");
    // RFC 9562 §5.8, version 8: made from a hash.
    const parts = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`, `a${hash.slice(17, 20)}`];
    return [...parts, hash.slice(20, 32)].join("-");
  }
}

function isOf(step: JobStep, { action, key }: Change): boolean {
  return step.action === action && step.key === key;
}
