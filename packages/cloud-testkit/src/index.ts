export type { CallCounts } from "./call-log.ts";
export type { SimulatorClock } from "./clock.ts";
export { type FaultKind, type FaultRule, type HeldRequest, readFaultRule } from "./faults.ts";
export type { GceBehaviour } from "./gce/behaviour.ts";
export type { AddGceInstanceOptions } from "./gce/instances.ts";
export type { GceDelays, GceLimits } from "./gce/project.ts";
export {
  type GceListenOptions,
  type GceMetadataListenAddress,
  GceSimulator,
  type GceSimulatorOptions,
} from "./gce/simulator.ts";
export type {
  GceAlias,
  GceChange,
  GceInstance,
  GceInstanceStatus,
  GceNic,
  GceOperation,
  GceOperationError,
  GceSecondaryRange,
  GceState,
  GceSubnetwork,
} from "./gce/state.ts";
export type { ListenAddress } from "./http-listener.ts";
export type { BucketRate } from "./rate-limit.ts";
export { type CrashPoint, RecordedJob, SimulatedCrash } from "./recorded-job.ts";
export type { CommonOptions, Listening } from "./simulator.ts";
export type { InstanceRole } from "./volcengine/access.ts";
export type { VolcengineDelays, VolcengineLimits } from "./volcengine/account.ts";
export type { VolcengineBehaviour } from "./volcengine/behaviour.ts";
export type { AddInstanceOptions } from "./volcengine/instances.ts";
export type { AccessKey } from "./volcengine/signature.ts";
export {
  type ListenOptions,
  type MetadataListenAddress,
  VolcengineSimulator,
  type VolcengineSimulatorOptions,
} from "./volcengine/simulator.ts";
export {
  type EniChange,
  type EniStatus,
  type InstanceStatus,
  isDelivering,
  type SimulatedAddress,
  type SimulatedEni,
  type SimulatedInstance,
  type SimulatedSecurityGroup,
  type SimulatedSubnet,
  type SimulatedVpc,
  type VolcengineChange,
  type VolcengineState,
} from "./volcengine/state.ts";
