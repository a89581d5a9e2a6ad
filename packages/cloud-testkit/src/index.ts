export type { SimulatorClock } from "./clock.ts";
export type { FaultRule } from "./faults.ts";
export type { ListenAddress } from "./http-listener.ts";
export { type CrashPoint, RecordedJob, SimulatedCrash } from "./recorded-job.ts";
export type { VolcengineDelays, VolcengineLimits } from "./volcengine/account.ts";
export type { AddInstanceOptions } from "./volcengine/instances.ts";
export type { AccessKey } from "./volcengine/signature.ts";
export {
  type Listening,
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
