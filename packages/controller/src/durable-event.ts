import { type EventRecord, eventOperation, type Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent, ControllerEventType } from "./controller-event.ts";
import type { Put } from "./fenced-writer.ts";

export interface About {
  readonly node?: string;
  readonly subnet?: string;
  readonly message: string;
}

/** An event, and the put that belongs into the transaction it reports. */
export interface DurableEvent {
  readonly event: ControllerEvent;
  readonly put: Put;
}

export function makeEvent(clock: Clock, type: ControllerEventType, about: About): ControllerEvent {
  return { time: clock.now().toISOString(), type, ...about };
}

/** `after` is a revision that has been seen; events sort by it. */
export function durableEvent(
  clock: Clock,
  after: Revision,
  type: ControllerEventType,
  about: About,
): DurableEvent {
  const event = makeEvent(clock, type, about);
  const operation = eventOperation(after, event satisfies EventRecord);
  if (!("put" in operation)) throw new TypeError("an event is a put");
  return { event, put: operation };
}
