import type { CloudJob, JobStep } from "@cocoon-net/core";

/** The program "dies" in a test: thrown by a {@link RecordedJob} at the chosen step. */
export class SimulatedCrash extends Error {
  constructor(step: JobStep) {
    super(`crashed at ${step.action} ${step.key} (${step.phase})`);
    this.name = "SimulatedCrash";
  }
}

export interface CrashPoint {
  /** Index of the call of `record`, from 0. */
  readonly at: number;
  /** Whether the step became durable before the crash. */
  readonly durable: boolean;
}

/** A {@link CloudJob} in memory that can die at any of its steps and be run again with what it had written. */
export class RecordedJob implements CloudJob {
  readonly id: string;
  readonly steps: readonly JobStep[];
  /** What is durable by now. */
  readonly written: JobStep[];
  readonly #crash: CrashPoint | undefined;
  #calls = 0;

  constructor(
    id: string,
    options: { readonly steps?: readonly JobStep[]; readonly crash?: CrashPoint } = {},
  ) {
    this.id = id;
    this.steps = [...(options.steps ?? [])];
    this.written = [...this.steps];
    this.#crash = options.crash;
  }

  /** How often `record` was called in this run. */
  get calls(): number {
    return this.#calls;
  }

  async record(step: JobStep): Promise<void> {
    const crash = this.#crash?.at === this.#calls++ ? this.#crash : undefined;
    if (crash === undefined || crash.durable) this.written.push(step);
    if (crash !== undefined) throw new SimulatedCrash(step);
  }

  /** The same job after a restart of the program. */
  restarted(): RecordedJob {
    return new RecordedJob(this.id, { steps: this.written });
  }
}
