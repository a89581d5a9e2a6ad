import type { JobStep } from "@cocoon-net/core";
import { z } from "zod";
import type { RepairAction } from "./finding.ts";
import { baseShape, type IntentBase, jobStepSchema } from "./intent.ts";

/** One action of a plan, and why. */
export interface PlannedRepair {
  readonly code: string;
  readonly subject: string;
  readonly action: RepairAction;
}

/** `intents/{id}` of a repair. */
export interface RepairIntent extends IntentBase {
  readonly kind: "repair";
  readonly step: "repairing";
  readonly actions: readonly PlannedRepair[];
  /** Index of the next one. */
  readonly next: number;
  /** What cloud calls of the next one were about to do, and did. */
  readonly cloudSteps: readonly JobStep[];
}

const compare = z.union([
  z.strictObject({ key: z.string(), exists: z.boolean() }),
  z.strictObject({ key: z.string(), modRevision: z.int() }),
]);
const owner = { node: z.string(), uid: z.string(), cidr: z.string(), if: z.array(compare) };
const action: z.ZodType<RepairAction> = z.union([
  z.looseObject({ do: z.literal("delete-key"), key: z.string(), if: z.array(compare) }),
  z.looseObject({ do: z.literal("put-slot"), ...owner }),
  z.looseObject({ do: z.literal("rest-block"), ...owner }),
  z.looseObject({
    do: z.literal("set-status"),
    node: z.string(),
    status: z.enum(["ready", "suspect", "fencing", "quarantined", "draining", "left"]),
    if: z.array(compare),
  }),
  z.looseObject({
    do: z.literal("release-resource"),
    platform: z.string(),
    id: z.string(),
    node: z.string(),
    instanceID: z.exactOptional(z.string()),
    subnet: z.string(),
  }),
]);

export const repairIntentSchema: z.ZodType<RepairIntent> = z.looseObject({
  kind: z.literal("repair"),
  step: z.literal("repairing"),
  actions: z.array(z.looseObject({ code: z.string(), subject: z.string(), action })),
  next: z.int().default(0),
  cloudSteps: z.array(jobStepSchema).default([]),
  ...baseShape,
});
