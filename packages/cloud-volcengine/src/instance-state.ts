import { AuthError, CocoonError, type InstanceState } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { findInstance } from "./reads.ts";

const states: Readonly<Record<string, InstanceState>> = {
  RUNNING: "running",
  STARTING: "running",
  REBOOTING: "running",
  // Guests may still be answering.
  STOPPING: "running",
  STOPPED: "stopped",
};

/**
 * `gone` only when the cloud, asked for exactly this id, answers cleanly and in full that it has no such
 * instance (G8). A refused or failed question is `unknown`.
 *
 * @throws {AuthError} because asking again will not help
 */
export async function describeInstance(
  api: Requests,
  instanceID: string,
  progress: (message: string) => void,
): Promise<InstanceState> {
  // An empty answer for something that is no instance id says nothing about a node.
  if (!/^i-[\w-]+$/.test(instanceID)) return "unknown";
  try {
    const instance = await findInstance(api, instanceID);
    return instance === undefined ? "gone" : (states[instance.status] ?? "unknown");
  } catch (error) {
    if (!(error instanceof CocoonError) || error instanceof AuthError) throw error;
    progress(`the state of ${instanceID} is unknown: ${error.message}`);
    return "unknown";
  }
}
