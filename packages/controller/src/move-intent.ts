import type { JobStep } from "@cocoon-net/core";
import { z } from "zod";
import { baseShape, type IntentBase, jobStepSchema } from "./intent.ts";

/**
 * How far a move has come.
 * `preparing`: both agents are to say that they act by `moved/{ip}`; nothing else has happened.
 * `moving`: the cloud is being told; when that is read back, the owner is swapped.
 * `settling`: the target owns the address; its agent is to say that it serves it.
 * `undoing`: the cloud is being told to put it back.
 */
export type MoveStep = "preparing" | "moving" | "settling" | "undoing";

/** `intents/{id}` of a move (G11). */
export interface MoveIntent extends IntentBase {
  readonly kind: "move";
  /** `migrate`: the guest keeps its address elsewhere. `return`: the guest has gone, the address goes home. */
  readonly purpose: "migrate" | "return";
  readonly ip: string;
  readonly mac: string;
  readonly vmID?: string;
  readonly from: string;
  readonly fromUID: string;
  /** Empty where the home subnet is nobody's any more: the address is only taken from `from`. */
  readonly to: string;
  readonly toUID: string;
  readonly platform: string;
  /** `moved/{ip}` was not there before. */
  readonly isFirst: boolean;
  readonly step: MoveStep;
  /** Why it is being undone, or shall be. */
  readonly stopped?: string;
  readonly cloudSteps: readonly JobStep[];
  readonly undoSteps: readonly JobStep[];
}

export const moveIntentSchema: z.ZodType<MoveIntent> = z.looseObject({
  kind: z.literal("move"),
  purpose: z.enum(["migrate", "return"]),
  ip: z.string(),
  mac: z.string(),
  vmID: z.exactOptional(z.string()),
  from: z.string(),
  fromUID: z.string(),
  to: z.string(),
  toUID: z.string(),
  platform: z.string(),
  isFirst: z.boolean(),
  step: z.enum(["preparing", "moving", "settling", "undoing"]),
  stopped: z.exactOptional(z.string()),
  cloudSteps: z.array(jobStepSchema).default([]),
  undoSteps: z.array(jobStepSchema).default([]),
  ...baseShape,
});
