import { createHash } from "node:crypto";
import type { CloudJob, JobStep } from "@cocoon-net/core";

type Detail = Readonly<Record<string, string>>;

/** A {@link CloudJob} with what it wrote down in earlier runs and in this one (G11). */
export class JobLog {
  readonly id: string;
  readonly #job: CloudJob;
  readonly #steps: JobStep[];

  constructor(job: CloudJob) {
    this.id = job.id;
    this.#job = job;
    this.#steps = [...job.steps];
  }

  async intent(action: string, key: string, detail: Detail): Promise<void> {
    await this.#record({ action, phase: "intent", key, detail });
  }

  async done(action: string, key: string, detail: Detail): Promise<void> {
    await this.#record({ action, phase: "done", key, detail });
  }

  async failed(action: string, key: string, detail: Detail): Promise<void> {
    await this.#record({ action, phase: "failed", key, detail });
  }

  /** The last thing that was written down about a step. */
  last(action: string, key: string): JobStep | undefined {
    return this.#steps.findLast((step) => step.action === action && step.key === key);
  }

  /**
   * The client token of a step: the same in every run, so that a repeat is the same request to the cloud, and a
   * new one after a try that is known to have failed.
   */
  token(action: string, key: string): string {
    const failures = this.#steps.filter(
      (step) => step.action === action && step.key === key && step.phase === "failed",
    ).length;
    return createHash("sha256")
      .update(JSON.stringify([this.id, action, key, failures]))
      .digest("hex")
      .slice(0, 32);
  }

  async #record(step: JobStep): Promise<void> {
    await this.#job.record(step);
    this.#steps.push(step);
  }
}
