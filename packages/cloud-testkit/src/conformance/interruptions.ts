import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type CrashPoint, RecordedJob, SimulatedCrash } from "../recorded-job.ts";
import type { CloudWorld } from "./world.ts";

/** Runs an operation as that job. */
export type Run<T> = (job: RecordedJob, signal?: AbortSignal) => Promise<T>;

export interface Interruption {
  /** For messages: where the program died. */
  readonly where: string;
  /** The job as a restart finds it. */
  readonly job: RecordedJob;
}

/**
 * Kills the operation at each step that it records, before and after the step is durable. `around` gives it something
 * to work on each time, and goes on with what was left.
 *
 * @param calls how often the operation records something when nothing goes wrong
 */
export async function killedAtEachStep<T>(
  calls: number,
  around: (die: (run: Run<T>) => Promise<Interruption>) => Promise<void>,
): Promise<void> {
  assert.ok(calls > 0, "the operation records nothing");
  for (let at = 0; at < calls; at++) {
    for (const durable of [false, true]) {
      const crash: CrashPoint = { at, durable };
      await around(async (run) => {
        const job = new RecordedJob(`killed-${at}-${durable}-${randomUUID()}`, { crash });
        const died = await run(job).then(
          () => false,
          (error: unknown) => {
            if (error instanceof SimulatedCrash) return true;
            throw error;
          },
        );
        // It may have less to do than the model had.
        assert.equal(died, job.calls > at, "a step that cannot be recorded must end the operation");
        const where = `killed at step ${at}, ${durable ? "after" : "before"} it was written`;
        return { where, job: job.restarted() };
      });
    }
  }
}

/**
 * Stops the operation at each request that changes something, before and after that is applied. `around` is as for
 * {@link killedAtEachStep}; it gets undefined once the operation has made fewer requests, and has finished.
 */
export async function stoppedAtEachRequest<T>(
  world: CloudWorld,
  around: (stop: (run: Run<T>) => Promise<Interruption | undefined>) => Promise<void>,
): Promise<void> {
  for (let n = 0, finished = false; !finished; n++) {
    for (const when of ["before", "after"] as const) {
      await around(async (run) => {
        const held = world.hold(n, when);
        const abort = new AbortController();
        const job = new RecordedJob(`stopped-${n}-${when}-${randomUUID()}`);
        const running = run(job, abort.signal).then(
          () => "finished" as const,
          (error: unknown) => {
            if (!abort.signal.aborted) throw error;
            return "stopped" as const;
          },
        );
        const first = await Promise.race([running, held.reached.then(() => "reached" as const)]);
        if (first === "reached") abort.abort(new Error("stopped"));
        await running;
        held.end();
        finished ||= first === "finished";
        if (first === "finished") return undefined;
        return { where: `stopped ${when} request ${n}`, job: job.restarted() };
      });
    }
    assert.ok(n < 200, "the operation does not end");
  }
}
