import type { FaultRule, VolcengineState } from "@cocoon-net/cloud-testkit";

/** What a test asks of the process inside the hub's namespace. */
export interface HubApi {
  startServer(kind: "etcd" | "redis"): Promise<string>;
  stopServer(signal: NodeJS.Signals): Promise<void>;
  restartServer(): Promise<void>;
  pauseServer(): void;
  resumeServer(): void;
  /** Values by key below a prefix, straight from the store. */
  list(prefix: string): Promise<Record<string, string>>;
  put(key: string, value: string): Promise<void>;
  remove(...keys: string[]): Promise<void>;
  startCloud(): Promise<{ api: string; region: string }>;
  /** An instance whose kernel is that namespace. @returns the address of its metadata service */
  addInstance(instanceID: string, namespace: string): Promise<string>;
  /** An ENI of somebody else in a subnet; attached to an instance where one is named. @returns its id */
  addForeignENI(subnetID: string, addresses: readonly string[], instanceID?: string): string;
  injectFault(rule: FaultRule): void;
  clearFaults(): void;
  cloudState(): VolcengineState;
  calls(): Record<string, number>;
}
