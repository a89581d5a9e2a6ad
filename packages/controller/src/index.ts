export { type CheckOptions, type CheckReport, checkCluster } from "./check.ts";
export type { Clock } from "./clock.ts";
export { systemClock } from "./clock.ts";
export type { Controller, RunOptions } from "./controller.ts";
export { createController } from "./controller.ts";
export type { ControllerEvent, ControllerEventType, EventReason } from "./controller-event.ts";
export { type EventQuery, type LoggedEvent, readEvents } from "./event-log.ts";
export type { Finding, FindingCode, RepairAction } from "./finding.ts";
export { type ControllerMetrics, type Histogram, reclaimSecondsBounds } from "./metrics.ts";
export * from "./migration-requests.ts";
export * from "./operator-requests.ts";
export type { OperatorOptions } from "./operator-write.ts";
export type { ControllerOptions, ControllerSettings, ReclaimPolicy, SilentNode } from "./options.ts";
export type { ReclaimCause } from "./reclaim-intent.ts";
export type { PlannedRepair } from "./repair-intent.ts";
export {
  planRepair,
  type RepairPlan,
  type RepairResult,
  type RunRepairOptions,
  runRepair,
} from "./repair-plan.ts";
