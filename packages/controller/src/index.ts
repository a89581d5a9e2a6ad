export type { Clock } from "./clock.ts";
export { systemClock } from "./clock.ts";
export type { Controller, RunOptions } from "./controller.ts";
export { createController } from "./controller.ts";
export type { ControllerEvent, ControllerEventType, EventReason } from "./controller-event.ts";
export * from "./operator-requests.ts";
export type { OperatorOptions } from "./operator-write.ts";
export type { ControllerOptions, ControllerSettings, ReclaimPolicy, SilentNode } from "./options.ts";
export type { ReclaimCause } from "./reclaim-intent.ts";
