import { randomBytes } from "node:crypto";
import type { JobStep, NodeResources, Revision } from "@cocoon-net/core";
import { z } from "zod";

/**
 * How far a reclaim has come; each is written in the transaction that gets it there.
 * `fencing`: the node still owns its block, the cloud is being told to stop delivering it.
 * `releasing`: the block is in quarantine; leases and cloud resources go.
 * `waiting`: all is gone but the quarantine, whose end frees the block and ends the intent.
 */
export type ReclaimStep = "fencing" | "releasing" | "waiting";

/**
 * `intents/{id}` of a reclaim (G11). It carries all that its steps need, because the node's name, and its record,
 * may be somebody else's before it ends (G12).
 */
export interface ReclaimIntent {
  readonly kind: "reclaim";
  readonly node: string;
  readonly uid: string;
  readonly instanceID: string;
  readonly platform: string;
  readonly subnet: string;
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  /** Revision at which the node got the subnet: only that ownership is taken away. */
  readonly epoch: Revision;
  readonly step: ReclaimStep;
  /** What cloud calls were about to do, and did. A call that changes something is in here first. */
  readonly cloudSteps: readonly JobStep[];
  readonly startedAt: string;
  readonly updatedAt: string;
  /** Failures of the current step. */
  readonly attempts: number;
  readonly lastError?: string;
}

const jobStepSchema: z.ZodType<JobStep> = z.looseObject({
  action: z.string(),
  phase: z.enum(["intent", "done", "failed"]),
  key: z.string(),
  detail: z.exactOptional(z.record(z.string(), z.string())),
});

export const reclaimIntentSchema: z.ZodType<ReclaimIntent> = z.looseObject({
  kind: z.literal("reclaim"),
  node: z.string(),
  uid: z.string(),
  instanceID: z.string(),
  platform: z.string(),
  subnet: z.string(),
  subnetID: z.exactOptional(z.string()),
  eniIDs: z.array(z.string()),
  epoch: z.int(),
  step: z.enum(["fencing", "releasing", "waiting"]),
  cloudSteps: z.array(jobStepSchema).default([]),
  startedAt: z.string(),
  updatedAt: z.string(),
  attempts: z.int().default(0),
  lastError: z.exactOptional(z.string()),
});

/** Readable, and never used before: the cloud's client tokens derive from it. */
export function newReclaimID(node: string): string {
  return `reclaim-${node}-${randomBytes(4).toString("hex")}`;
}

export function resourcesOf(intent: ReclaimIntent): NodeResources {
  return {
    node: intent.node,
    instanceID: intent.instanceID,
    subnet: intent.subnet,
    ...(intent.subnetID === undefined ? {} : { subnetID: intent.subnetID }),
    eniIDs: intent.eniIDs,
  };
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
