export type { Clock } from "./clock.ts";
export { systemClock } from "./clock.ts";
export type { Controller, RunOptions } from "./controller.ts";
export { createController } from "./controller.ts";
export type { ControllerEvent, ControllerEventType } from "./controller-event.ts";
export type { ControllerOptions, ControllerSettings, ReclaimPolicy } from "./options.ts";
