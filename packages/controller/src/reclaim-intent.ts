import type { JobStep, NodeRecord, NodeResources, NodeStatus, Revision } from "@cocoon-net/core";
import { z } from "zod";
import { baseShape, type IntentBase, jobStepSchema, newBase, newIntentID, resourcesOf } from "./intent.ts";

/**
 * How far a reclaim has come; each is written in the transaction that gets it there.
 * `fencing`: the node still owns its block, the cloud is being told to stop delivering it.
 * `releasing`: the block is in quarantine; leases and cloud resources go.
 * `waiting`: all is gone but the quarantine, whose end frees the block and ends the intent.
 */
export type ReclaimStep = "fencing" | "releasing" | "waiting";

/**
 * Why a block is taken from its node.
 * `instance-gone`: silent, and the cloud says that the instance is stopped or gone. `fence-policy`: silent, and the
 * policy says that this is enough to fence it. `operator`: silent, and asked for. `operator-forced`: the same, and it
 * goes on when no fence can be verified (G6). `drained`: the node has no leases left and was to leave.
 */
export type ReclaimCause = "instance-gone" | "fence-policy" | "operator" | "operator-forced" | "drained";

/**
 * `intents/{id}` of a reclaim (G11). It carries all that its steps need, because the node's name, and its record,
 * may be somebody else's before it ends (G12).
 */
export interface ReclaimIntent extends IntentBase {
  readonly kind: "reclaim";
  readonly cause: ReclaimCause;
  readonly node: string;
  readonly uid: string;
  readonly instanceID?: string;
  readonly platform: string;
  readonly subnet: string;
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  /** Revision at which the node got the subnet: only that ownership is taken away. */
  readonly epoch: Revision;
  /** What the node becomes again when it speaks before anything was touched. */
  readonly statusBefore: NodeStatus;
  readonly step: ReclaimStep;
  /** What was moved to the node has been taken from it on record. */
  readonly disowned?: boolean;
  /** What cloud calls were about to do, and did. A call that changes something is in here first. */
  readonly cloudSteps: readonly JobStep[];
}

export const reclaimIntentSchema: z.ZodType<ReclaimIntent> = z.looseObject({
  kind: z.literal("reclaim"),
  cause: z
    .enum(["instance-gone", "fence-policy", "operator", "operator-forced", "drained"])
    .default("instance-gone"),
  node: z.string(),
  uid: z.string(),
  instanceID: z.exactOptional(z.string()),
  platform: z.string(),
  subnet: z.string(),
  subnetID: z.exactOptional(z.string()),
  eniIDs: z.array(z.string()),
  epoch: z.int(),
  statusBefore: z.enum(["ready", "suspect", "fencing", "quarantined", "draining", "left"]).default("suspect"),
  step: z.enum(["fencing", "releasing", "waiting"]),
  disowned: z.exactOptional(z.boolean()),
  cloudSteps: z.array(jobStepSchema).default([]),
  ...baseShape,
});

/** The first state of a reclaim, and its id. */
export function newReclaim(
  cause: ReclaimCause,
  owner: {
    readonly node: string;
    readonly record: NodeRecord;
    readonly subnet: string;
    readonly epoch: Revision;
  },
  platform: string,
  time: string,
): { readonly id: string; readonly intent: ReclaimIntent } {
  const { node, record, subnet, epoch } = owner;
  const intent: ReclaimIntent = {
    kind: "reclaim",
    cause,
    node,
    uid: record.uid,
    ...(record.instanceID === undefined ? {} : { instanceID: record.instanceID }),
    platform,
    subnet,
    ...(record.subnetID === undefined ? {} : { subnetID: record.subnetID }),
    eniIDs: record.eniIDs,
    epoch,
    statusBefore: record.status === "draining" ? "draining" : "suspect",
    step: "fencing",
    cloudSteps: [],
    ...newBase(time),
  };
  return { id: newIntentID("reclaim", node), intent };
}

export function reclaimedResources(intent: ReclaimIntent): NodeResources {
  return resourcesOf(intent.node, intent);
}

/** Whether an operator has asked for it, so that mass silence does not hold it back (G13). */
export function isAskedFor({ cause }: Pick<ReclaimIntent, "cause">): boolean {
  return cause === "operator" || cause === "operator-forced" || cause === "drained";
}
