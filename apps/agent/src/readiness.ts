import type { ServerStats } from "@cocoon-net/dhcp";
import type { LinkState } from "./cluster-link.ts";

export interface ReadinessSource {
  /** Of the built-in server; undefined where another one serves. */
  readonly stats: ServerStats | undefined;
  /** Undefined without a store. */
  readonly link: LinkState | undefined;
  readonly draining: boolean;
}

/** Why a new guest would get no address now, one sentence each. Empty when it would. Guests that have one renew anyway. */
export function reasonsNotReady({ stats, link, draining }: ReadinessSource): string[] {
  const reasons: string[] = [];
  if (link === "lost") reasons.push("the subnet belongs to another node: run init or adopt again");
  else if (link !== undefined && link !== "owned") {
    reasons.push("the store does not confirm that the subnet is ours: guests renew, nothing new is granted");
  }
  if (draining) reasons.push("the node is to leave: nothing new is granted");
  if (stats?.journal.failing !== undefined) {
    reasons.push(`leases cannot be made durable: ${stats.journal.failing}`);
  }
  if (stats !== undefined && stats.pool.free === 0) reasons.push("no address of the pool is free");
  return reasons;
}
