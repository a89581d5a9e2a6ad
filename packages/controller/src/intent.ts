import { randomBytes } from "node:crypto";
import type { JobStep, NodeRecord, NodeResources } from "@cocoon-net/core";
import { z } from "zod";

/** What every job of the controller has in its `intents/{id}` (G11). */
export interface IntentBase {
  readonly kind: string;
  readonly step: string;
  readonly startedAt: string;
  readonly updatedAt: string;
  /** Failures of the current step. */
  readonly attempts: number;
  readonly lastError?: string;
}

export const jobStepSchema: z.ZodType<JobStep> = z.looseObject({
  action: z.string(),
  phase: z.enum(["intent", "done", "failed"]),
  key: z.string(),
  detail: z.exactOptional(z.record(z.string(), z.string())),
});

/** The fields of {@link IntentBase} but for `kind` and `step`. */
export const baseShape: {
  readonly startedAt: z.ZodString;
  readonly updatedAt: z.ZodString;
  readonly attempts: z.ZodDefault<z.ZodInt>;
  readonly lastError: z.ZodExactOptional<z.ZodString>;
} = {
  startedAt: z.string(),
  updatedAt: z.string(),
  attempts: z.int().default(0),
  lastError: z.exactOptional(z.string()),
};

/** Readable, and never used before: the cloud's client tokens derive from it. */
export function newIntentID(kind: string, subject: string): string {
  return `${kind}-${subject}-${randomBytes(4).toString("hex")}`;
}

export function newBase(time: string): Pick<IntentBase, "startedAt" | "updatedAt" | "attempts"> {
  return { startedAt: time, updatedAt: time, attempts: 0 };
}

/** What a node has at the cloud, by its record. */
export function resourcesOf(
  node: string,
  record: Pick<NodeRecord, "instanceID" | "subnet" | "subnetID" | "eniIDs">,
): NodeResources {
  const { instanceID, subnet, subnetID, eniIDs } = record;
  return { node, instanceID, subnet, ...(subnetID === undefined ? {} : { subnetID }), eniIDs };
}

/** Failures of one action that are kept; a driver may derive a new client token from each. */
const failuresKept = 32;

/**
 * The steps with one more, the newest last. An intent or a result that is written again, as each new try does,
 * replaces its former self, so that tries without end do not make a record without end.
 */
export function withStep(steps: readonly JobStep[], step: JobStep): JobStep[] {
  const isSame = (known: JobStep) =>
    known.action === step.action && known.key === step.key && known.phase === step.phase;
  const former = steps.filter(isSame);
  const kept = step.phase === "failed" ? former.slice(-failuresKept + 1) : [];
  return [...steps.filter((known) => !isSame(known) || kept.includes(known)), step];
}
