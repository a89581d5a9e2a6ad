import { counted, decode, type Entry, leaseSchema, type Store } from "@cocoon-net/core";
import type { NodeView } from "./detection.ts";
import type { Told } from "./durable-event.ts";
import { leasesIn } from "./lease-deletion.ts";
import { listMoved, movedOfNode } from "./moved-addresses.ts";

/** Whether a draining node may be fenced, or what that waits for. */
export type DrainState = "drained" | Told;

/**
 * A node has been drained when its agent has said that it grants nothing new, and that the store has all its leases,
 * and when it has none left (G8: before that, no lease in the store means nothing).
 */
export async function drainState(store: Store, view: NodeView, signal: AbortSignal): Promise<DrainState> {
  const { node, record, subnet } = view;
  if (record.grantsStopped === undefined) {
    return {
      type: "drain-waiting",
      reason: "agent-has-not-stopped",
      message: `${node} is to leave; its agent has not said yet that it grants nothing new`,
    };
  }
  const moved = movedOfNode(await listMoved(store, signal), { ...record, node }, subnet);
  const busy = moved.records.filter(
    ({ ip, record: { move } }) => move !== undefined || moved.in.includes(ip),
  );
  if (busy.length > 0) {
    return {
      type: "drain-waiting",
      reason: "moves-left",
      message: `${node} is to leave; ${busy.map(({ ip }) => ip).join(", ")} is being moved, or served for another node`,
    };
  }
  const left = await leasesIn(store, subnet, node, signal);
  if (left.length === 0) return "drained";
  return {
    type: "drain-waiting",
    reason: "leases-left",
    message: `${node} is to leave; it has ${counted(left.length, "lease")} left: ${namesOf(left)}`,
  };
}

function namesOf(leases: readonly Entry[]): string {
  const names = leases.slice(0, 3).map((entry) => {
    const { vmID } = decode(leaseSchema, entry);
    const ip = entry.key.slice(entry.key.lastIndexOf("/") + 1);
    return vmID === undefined ? ip : `${ip} (${vmID})`;
  });
  return names.join(", ") + (leases.length > names.length ? " …" : "");
}
