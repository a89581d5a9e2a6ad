import { type EventRecord, eventOperation, type Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent, ControllerEventType, EventReason } from "./controller-event.ts";
import type { Put } from "./fenced-writer.ts";

/** What an event is about. */
export type About = Pick<EventRecord, "node" | "subnet" | "ip" | "vmID" | "intent">;

/** What an event says. */
export interface Told {
  readonly type: ControllerEventType;
  readonly reason?: EventReason;
  readonly message: string;
}

/** An event, and the put that belongs into the transaction it reports. */
export interface DurableEvent {
  readonly event: ControllerEvent;
  readonly put: Put;
}

export function makeEvent(clock: Pick<Clock, "now">, told: Told, about: About = {}): ControllerEvent {
  const { type, reason, message } = told;
  return {
    time: clock.now().toISOString(),
    type,
    ...(reason === undefined ? {} : { reason }),
    ...about,
    message,
  };
}

/** `after` is a revision that has been seen; events sort by it. */
export function durableEvent(
  clock: Pick<Clock, "now">,
  after: Revision,
  told: Told,
  about?: About,
): DurableEvent {
  const event = makeEvent(clock, told, about);
  return { event, put: eventOperation(after, event) };
}
