import { AuthError, CocoonError, type InstanceState } from "@cocoon-net/core";
import type { Looks } from "./change.ts";
import { formatInstanceRef, type InstanceRef } from "./instance-ref.ts";
import type { Instance } from "./wire.ts";

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
export async function describeInstance({ api, progress }: Looks, ref: InstanceRef): Promise<InstanceState> {
  try {
    return stateOf(await api.getInstance(ref));
  } catch (error) {
    if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
    progress(`the state of ${formatInstanceRef(ref)} is unknown: ${error.message}`);
    return "unknown";
  }
}

/** @param instance undefined: the cloud says that there is none */
export function stateOf(instance: Instance | undefined): InstanceState {
  return instance === undefined ? "gone" : (states[instance.status] ?? "unknown");
}
