import { Backoff, type CloudJob, type Compare, describeError, type JobStep } from "@cocoon-net/core";
import type { Alarm } from "./alarm.ts";
import type { Clock } from "./clock.ts";
import type { ControllerEventType } from "./controller-event.ts";
import { LeadLostError } from "./fenced-writer.ts";
import { type IntentBase, withStep } from "./intent.ts";
import type { IntentLog } from "./intent-log.ts";

/**
 * The intent is gone; or it cannot go on before something happens in the cluster; or how many milliseconds to wait
 * before looking again.
 */
export type Next = "ended" | "held" | number;

export interface RunContext {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
}

export interface RunnableJob<T extends IntentBase> {
  readonly log: IntentLog<T>;
  /** Told at the first, second, fourth … failure of a step. */
  readonly retryEvent: ControllerEventType;
  /** Does what the current step asks for. */
  advance(): Promise<Next>;
  /** What was tried, for messages. */
  describe(): string;
}

/**
 * Drives a job until its intent is gone. What fails is tried again, with pauses that grow from failure to failure, and
 * begin anew once a look has gone well: a job that waits for days meets many outages, each of which is the first.
 * @throws {LeadLostError}; the signal's reason
 */
export async function runJob<T extends IntentBase>(
  job: RunnableJob<T>,
  context: RunContext & { readonly alarm: Alarm; readonly tickMs: number },
): Promise<void> {
  const { alarm, clock, signal, retryFirstMs, retryMaxMs, tickMs } = context;
  const pauses = new Backoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
  for (;;) {
    const { rings } = alarm;
    try {
      const next = await job.advance();
      if (next === "ended") return;
      pauses.reset();
      if (next === "held") await alarm.sleep(tickMs, rings, signal);
      else await clock.wait(next, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LeadLostError) throw error;
      await noteFailure(job, error, signal);
      await clock.wait(pauses.next(), signal);
    }
  }
}

/** Written into the intent each time. */
async function noteFailure<T extends IntentBase>(
  job: RunnableJob<T>,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { log, retryEvent } = job;
  const attempts = log.intent.attempts + 1;
  const message = `${job.describe()}: ${describeError(error)}`;
  try {
    await log.save((intent) => ({ ...intent, attempts, lastError: message }), {
      ...(Number.isInteger(Math.log2(attempts))
        ? { event: { type: retryEvent, reason: "failed", message } }
        : {}),
    });
  } catch (failure) {
    signal.throwIfAborted();
    if (failure instanceof LeadLostError) throw failure;
    // A store that is full, say: the step is tried again all the same, and it fails where it matters.
  }
}

/**
 * A cloud job whose notes are in the intent. What must hold is compared in the transaction that makes a note: refused
 * before a request that changes something, the request is not made.
 */
export function cloudJob<T extends IntentBase & { readonly cloudSteps: readonly JobStep[] }>(
  log: IntentLog<T>,
  guard: {
    /** What must hold for the job to be its own still. */
    readonly held: readonly Compare[];
    /** What must hold, beside that, just before each request that changes something. @throws why it may not be made */
    readonly before: () => readonly Compare[];
    /** Why a note was refused. */
    readonly refused: () => Error;
  },
): CloudJob {
  const record = async (step: JobStep) => {
    const conditions = step.phase === "intent" ? [...guard.held, ...guard.before()] : guard.held;
    const saved = await log.save((intent) => ({ ...intent, cloudSteps: withStep(intent.cloudSteps, step) }), {
      if: conditions,
    });
    if (!saved) throw guard.refused();
  };
  return { id: log.id, steps: log.intent.cloudSteps, record };
}
