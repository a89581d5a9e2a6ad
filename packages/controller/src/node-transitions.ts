import { type Compare, encode, keys, type NodeStatus, type Operation, type Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent, ControllerEventType } from "./controller-event.ts";
import type { NodeView } from "./detection.ts";
import { type About, durableEvent } from "./durable-event.ts";
import type { FencedWriter } from "./fenced-writer.ts";
import { newReclaimID, type ReclaimIntent } from "./reclaim-intent.ts";

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
  type: ControllerEventType,
  about: About,
): Promise<void> {
  const { event, put } = durableEvent(context.clock, after, type, about);
  await context.writer.write({ witness: put }, context.signal);
  context.onEvent(event);
}

/** False when the node has changed since it was looked at: nothing was written then. */
export async function markSuspect(context: TransitionContext, view: NodeView): Promise<boolean> {
  const message = `${view.node} is silent; nothing is done to ${view.subnet} yet`;
  return transition(context, view, { status: "suspect", alive: false, type: "node-suspect", message });
}

/** The way back, at no cost. */
export async function markReady(context: TransitionContext, view: NodeView): Promise<boolean> {
  const message = `${view.node} speaks again`;
  return transition(context, view, { status: "ready", alive: true, type: "node-returned", message });
}

/**
 * The point from which a node is being reclaimed: its status and the intent are one transaction (G11), which
 * compares that the node still is silent and still owns its block by the same registration (G12).
 */
export async function startReclaim(
  context: TransitionContext,
  view: NodeView,
  instanceID: string,
  platform: string,
  state: string,
): Promise<StartedReclaim | undefined> {
  const { node, record, subnet, epoch } = view;
  const time = context.clock.now().toISOString();
  const id = newReclaimID(node);
  const intent: ReclaimIntent = {
    kind: "reclaim",
    node,
    uid: record.uid,
    instanceID,
    platform,
    subnet,
    ...(record.subnetID === undefined ? {} : { subnetID: record.subnetID }),
    eniIDs: record.eniIDs,
    epoch,
    step: "fencing",
    cloudSteps: [],
    startedAt: time,
    updatedAt: time,
    attempts: 0,
  };
  const revision = await write(context, view, {
    status: "fencing",
    alive: false,
    type: "reclaim-started",
    message: `instance ${instanceID} is ${state}, seen twice; ${subnet} is being taken from ${node}`,
    more: [{ put: keys.intent(id), value: encode(intent) }],
  });
  return revision === undefined ? undefined : { id, intent, revision };
}

interface Transition {
  readonly status: NodeStatus;
  /** What must hold of `alive/{node}`. */
  readonly alive: boolean;
  readonly type: ControllerEventType;
  readonly message: string;
  readonly more?: readonly Operation[];
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
  const about = { node, subnet, message: change.message };
  const { event, put } = durableEvent(context.clock, Math.max(epoch, revision), change.type, about);
  const conditions: Compare[] = [
    { key: keys.subnet(node), modRevision: epoch },
    { key: keys.node(node), modRevision: revision },
    { key: keys.alive(node), exists: change.alive },
  ];
  // The record as it was read, with the fields that this version does not know.
  const record = { ...view.record, status: change.status };
  const written = await context.writer.write(
    {
      if: conditions,
      then: [{ put: keys.node(node), value: encode(record) }, ...(change.more ?? [])],
      witness: put,
    },
    context.signal,
  );
  if (written !== undefined) context.onEvent(event);
  return written;
}
