import { type ClusterConfig, formatCidr, parseCidr, SlotTable, slotsOf } from "@cocoon-net/core";
import type { NodeView } from "./detection.ts";
import type { ControllerMetrics } from "./metrics.ts";

/** How many slots of the parent CIDR are whose. */
export function slotUse(
  config: ClusterConfig | undefined,
  owners: Iterable<NodeView>,
  quarantined: Iterable<string>,
): ControllerMetrics["slots"] {
  if (!config) return { total: 0, owned: 0, quarantined: 0, free: 0 };
  const reserved = config.reserved.map((text) => parseCidr(text));
  const { total } = new SlotTable(parseCidr(config.parentCIDR), config.nodePrefix, reserved);
  const count = (subnets: Iterable<string>) => {
    const slots = [...subnets].flatMap((text) => slotsOf(parseCidr(text), config.nodePrefix));
    return new Set(slots.map(formatCidr)).size;
  };
  const owned = count([...owners].map(({ subnet }) => subnet));
  const resting = count(quarantined);
  return { total, owned, quarantined: resting, free: Math.max(0, total - owned - resting) };
}
