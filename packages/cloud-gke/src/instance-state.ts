import { AuthError, CocoonError, type InstanceState } from "@cocoon-net/core";
import type { GceApi } from "./api.ts";
import { parseInstanceRef } from "./instance-ref.ts";

/** https://cloud.google.com/compute/docs/instances/instance-lifecycle */
const states: Readonly<Record<string, InstanceState>> = {
  PROVISIONING: "running",
  STAGING: "running",
  PENDING: "running",
  RUNNING: "running",
  // Guests may still be answering.
  PENDING_STOP: "running",
  STOPPING: "running",
  SUSPENDING: "running",
  STOPPED: "stopped",
  SUSPENDED: "stopped",
  TERMINATED: "stopped",
};

/**
 * `gone` only when the cloud, asked for exactly this instance, answers that it has none of that name, or another one
 * by now (G8, G12). A refused or failed question is `unknown`.
 *
 * @throws {AuthError} because asking again will not help
 */
export async function describeInstance(
  api: GceApi,
  instanceID: string,
  signal: AbortSignal | undefined,
  progress: (message: string) => void,
): Promise<InstanceState> {
  const ref = parseInstanceRef(instanceID);
  if (ref === undefined) return "unknown";
  try {
    const instance = await api.getInstance(ref, signal);
    return instance === undefined ? "gone" : (states[instance.status] ?? "unknown");
  } catch (error) {
    if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
    progress(`the state of ${instanceID} is unknown: ${error.message}`);
    return "unknown";
  }
}
