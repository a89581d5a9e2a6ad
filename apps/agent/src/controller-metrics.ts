import type { ControllerMetrics } from "@cocoon-net/controller";
import { by, family, gauge, histogram, labels } from "./exposition.ts";

/** What a controller knows, in Prometheus's text format. What only a leader knows is zero or absent elsewhere. */
export function renderControllerMetrics(now: ControllerMetrics): string {
  const { total, owned, quarantined, free } = now.slots;
  const intents = (value: (one: ControllerMetrics["intents"][number]) => number): Record<string, number> =>
    Object.fromEntries(now.intents.map((one) => [labels({ kind: one.kind, step: one.step }), value(one)]));
  return [
    gauge("cocoon_net_controller_leading", "1 while this controller leads.", Number(now.leading)),
    family(
      "cocoon_net_nodes",
      "gauge",
      "Nodes that own a subnet, by status.",
      by("status", { ...now.nodes }),
    ),
    gauge("cocoon_net_slots_total", "Slots of the parent CIDR.", total),
    family("cocoon_net_slots", "gauge", "Slots by state.", by("state", { owned, quarantined, free })),
    histogram("cocoon_net_reclaim_seconds", "From a node's silence to its block being free.", {
      "": now.reclaimSeconds,
    }),
    family(
      "cocoon_net_intents",
      "gauge",
      "Jobs by kind and step.",
      intents(({ count }) => count),
    ),
    family(
      "cocoon_net_intent_oldest_seconds",
      "gauge",
      "Age of the oldest job of a kind and step.",
      intents(({ oldestSeconds }) => oldestSeconds),
    ),
    gauge("cocoon_net_moved_addresses", "Addresses that are served away from home.", now.movedAddresses),
    family(
      "cocoon_net_cloud_requests_total",
      "counter",
      "Requests to clouds by platform, action and result.",
      Object.fromEntries(
        now.cloudCalls.map(({ platform, action, result, count }) => [
          labels({ platform, action, result }),
          count,
        ]),
      ),
    ),
    family(
      "cocoon_net_findings",
      "gauge",
      "What the last standing check found.",
      by("kind", { ...now.findings }),
    ),
    family("cocoon_net_repairs_total", "counter", "What repairs of this controller did.", {
      "": now.repaired,
    }),
    gauge(
      "cocoon_net_breaker_open",
      "1 while too many nodes are silent to free any.",
      Number(now.breakerOpen),
    ),
    gauge("cocoon_net_paused", "1 while an operator has paused what frees.", Number(now.paused)),
    gauge("cocoon_net_recovering", "1 while the store recovers.", Number(now.recovering)),
    ...(now.watchLagSeconds === undefined
      ? []
      : [
          gauge(
            "cocoon_net_watch_lag_seconds",
            "From the leader's last write to its watch.",
            now.watchLagSeconds,
          ),
        ]),
  ].join("");
}
