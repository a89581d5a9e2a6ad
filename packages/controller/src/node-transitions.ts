import {
  type Compare,
  encode,
  keys,
  type NodeStatus,
  notPaused,
  type Operation,
  type Revision,
} from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent } from "./controller-event.ts";
import type { NodeView } from "./detection.ts";
import { type About, durableEvent, type Told } from "./durable-event.ts";
import type { FencedWriter } from "./fenced-writer.ts";
import { newReclaim, type ReclaimCause, type ReclaimIntent } from "./reclaim-intent.ts";

export interface TransitionContext {
  readonly writer: FencedWriter;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onEvent: (event: ControllerEvent) => void;
}

export interface StartedReclaim {
  readonly id: string;
  readonly intent: ReclaimIntent;
  readonly revision: Revision;
}

/** Only an event, at the newest revision that the leader has seen. */
export async function tell(
  context: TransitionContext,
  after: Revision,
  told: Told,
  about?: About,
): Promise<void> {
  const { event, put } = durableEvent(context.clock, after, told, about);
  await context.writer.write({ witness: put }, context.signal);
  context.onEvent(event);
}

/** False when the node has changed since it was looked at: nothing was written then. */
export async function markSuspect(context: TransitionContext, view: NodeView): Promise<boolean> {
  const message = `${view.node} is silent; nothing is done to ${view.subnet} yet`;
  return transition(context, view, {
    status: "suspect",
    alive: false,
    event: { type: "node-suspect", reason: "session-lost", message },
  });
}

/** The way back, at no cost. */
export async function markReady(context: TransitionContext, view: NodeView): Promise<boolean> {
  const message = `${view.node} speaks again`;
  return transition(context, view, {
    status: "ready",
    alive: true,
    event: { type: "node-returned", reason: "spoke-again", message },
  });
}

/**
 * The point from which a node is being reclaimed: its status and the intent are one transaction (G11), which
 * compares that the node still is silent, unless it was drained, and still owns its block by the same registration
 * (G12).
 */
export async function startReclaim(
  context: TransitionContext,
  view: NodeView,
  { cause, platform, reason }: { cause: ReclaimCause; platform: string; reason: Told["reason"] & string },
): Promise<StartedReclaim | undefined> {
  const { node, subnet } = view;
  const { id, intent } = newReclaim(cause, view, platform, context.clock.now().toISOString());
  const revision = await write(context, view, {
    status: "fencing",
    ...(cause === "drained" ? {} : { alive: false }),
    event: {
      type: "reclaim-started",
      reason,
      message: `${subnet} is being taken from ${node}: ${sentences[reason] ?? reason}`,
    },
    intent: id,
    if: [notPaused],
    then: [{ put: keys.intent(id), value: encode(intent) }],
  });
  return revision === undefined ? undefined : { id, intent, revision };
}

const sentences: Readonly<Record<string, string>> = {
  "instance-gone": "the cloud says that its instance is gone, seen twice",
  "instance-stopped": "the cloud says that its instance is stopped, seen twice",
  "fence-policy": "it is silent, and is fenced whatever its instance does",
  drained: "it was to leave, and has no leases left",
};

interface Transition {
  readonly status: NodeStatus;
  /** What must hold of `alive/{node}`; anything when left out. */
  readonly alive?: boolean;
  readonly event: Told;
  readonly intent?: string;
  readonly if?: readonly Compare[];
  readonly then?: readonly Operation[];
}

async function transition(context: TransitionContext, view: NodeView, change: Transition): Promise<boolean> {
  return (await write(context, view, change)) !== undefined;
}

async function write(
  context: TransitionContext,
  view: NodeView,
  change: Transition,
): Promise<Revision | undefined> {
  const { node, subnet, epoch, revision } = view;
  const about = { node, subnet, ...(change.intent === undefined ? {} : { intent: change.intent }) };
  const { event, put } = durableEvent(context.clock, Math.max(epoch, revision), change.event, about);
  // The record as it was read, with the fields that this version does not know.
  const record = { ...view.record, status: change.status };
  const written = await context.writer.write(
    {
      if: [
        { key: keys.subnet(node), modRevision: epoch },
        { key: keys.node(node), modRevision: revision },
        ...(change.alive === undefined ? [] : [{ key: keys.alive(node), exists: change.alive }]),
        ...(change.if ?? []),
      ],
      then: [{ put: keys.node(node), value: encode(record) }, ...(change.then ?? [])],
      witness: put,
    },
    context.signal,
  );
  if (written !== undefined) context.onEvent(event);
  return written;
}
