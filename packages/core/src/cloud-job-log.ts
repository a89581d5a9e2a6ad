import { createHash } from "node:crypto";
import type { CloudJob, JobStep } from "./cloud.ts";

type Detail = Readonly<Record<string, string>>;

/** A {@link CloudJob} with what it wrote down in earlier runs and in this one (G11). For Cloud drivers. */
export class JobLog {
  readonly id: string;
  readonly #job: CloudJob;
  readonly #steps: JobStep[];

  constructor(job: CloudJob) {
    this.id = job.id;
    this.#job = job;
    this.#steps = [...job.steps];
  }

  async intent(action: string, key: string, detail: Detail = {}): Promise<void> {
    await this.#record({ action, phase: "intent", key, detail });
  }

  async done(action: string, key: string, detail: Detail = {}): Promise<void> {
    await this.#record({ action, phase: "done", key, detail });
  }

  async failed(action: string, key: string, detail: Detail = {}): Promise<void> {
    await this.#record({ action, phase: "failed", key, detail });
  }

  /** The last thing that was written down about a step. */
  last(action: string, key: string): JobStep | undefined {
    return this.#steps.findLast((step) => step.action === action && step.key === key);
  }

  /** The last thing that was written down about each step of an action, by key. */
  lastOf(action: string): ReadonlyMap<string, JobStep> {
    const steps = this.#steps.filter((step) => step.action === action);
    return new Map(steps.map((step) => [step.key, step]));
  }

  /**
   * The client token of a step, a UUID: the same in every run, so that a repeat is the same request to the cloud, and
   * a new one after a try that is known to have failed. `request` is what else makes it this request and no other.
   */
  token(action: string, key: string, request?: unknown): string {
    const failures = this.#steps.filter(
      (step) => step.action === action && step.key === key && step.phase === "failed",
    ).length;
    const hash = createHash("sha256")
      .update(JSON.stringify([this.id, action, key, failures, request]))
      .digest("hex");
    // RFC 9562 §5.8, version 8: made from a hash.
    const parts = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`, `a${hash.slice(17, 20)}`];
    return [...parts, hash.slice(20, 32)].join("-");
  }

  async #record(step: JobStep): Promise<void> {
    await this.#job.record(step);
    this.#steps.push(step);
  }
}
