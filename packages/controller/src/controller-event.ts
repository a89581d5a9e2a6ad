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
  | "subnet-freed"
  | "drain-requested"
  | "drain-cancelled"
  | "drain-waiting"
  | "move-requested"
  | "move-retry"
  | "move-undoing"
  | "move-aborted"
  | "move-ended"
  | "move-finished"
  | "address-moved"
  | "address-returned"
  | "check-finding"
  | "repair-requested"
  | "repair-retry"
  | "repair-skipped"
  | "repair-ended"
  | "repaired";

/** Why, as a stable word; the message says it for people. */
export type EventReason =
  /** The node's session is gone. */
  | "session-lost"
  | "spoke-again"
  /** What the cloud says of the instance. */
  | "instance-gone"
  | "instance-stopped"
  | "instance-running"
  /** Why nothing happens by itself. */
  | "no-instance-id"
  | "policy-manual"
  /** Why a block is taken. */
  | "fence-policy"
  | "operator"
  | "operator-forced"
  | "drained"
  /** What the quarantine of a block rests on. */
  | "fenced"
  | "not-fenced"
  /** Why a job ended without what it was for. */
  | "given-back"
  | "taken-back"
  | "mass-silence"
  | "quarantine-over"
  /** What a drain waits for. */
  | "agent-has-not-stopped"
  | "leases-left"
  | "moves-left"
  /** Why a move does not go on, or ends. */
  | "source-silent"
  | "target-silent"
  | "target-not-ready"
  | "lease-changed"
  | "agents-not-ready"
  | "cloud-refused"
  | "cancelled"
  | "overtaken"
  | "guest-gone"
  | "served"
  | "failed";

/** `time` is RFC 3339 in UTC; `node`, `subnet`, `ip` and `vmID` are set where the event is about one. */
export interface ControllerEvent extends EventRecord {
  readonly type: ControllerEventType;
  readonly reason?: EventReason;
}
