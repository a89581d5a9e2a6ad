import type { EventRecord } from "@cocoon-net/core";

/**
 * What a controller tells. `leader-elected`, `leader-lost` and `problem` are its own; every other type also
 * stands in the store's event log, written in the transaction that it reports.
 */
export type ControllerEventType =
  | "leader-elected"
  | "leader-lost"
  | "problem"
  | "node-suspect"
  | "node-returned"
  | "instance-running"
  | "reclaim-manual"
  | "reclaim-paused"
  | "reclaim-resumed"
  | "reclaim-started"
  | "reclaim-retry"
  | "reclaim-ended"
  | "subnet-quarantined"
  | "subnet-freed";

/** `time` is RFC 3339 in UTC; `node` and `subnet` are set where the event is about one. */
export interface ControllerEvent extends EventRecord {
  readonly type: ControllerEventType;
}
