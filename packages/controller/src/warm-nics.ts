import type { Cloud, ClusterConfig, InstanceIdentity } from "@cocoon-net/core";
import type { NodeView } from "./detection.ts";

/** How everything of a cluster is tagged at the cloud. */
export function clusterTags(config: Pick<ClusterConfig, "clusterUID">): Readonly<Record<string, string>> {
  return { "cocoon-net:cluster": config.clusterUID };
}

/** A node by which the cloud is told where to look. */
export function placeOf(owners: Iterable<NodeView>): InstanceIdentity | undefined {
  for (const { record } of owners) {
    const { instanceID, zone = "", region = "", network = "" } = record;
    if (instanceID !== undefined) return { instanceID, zone, region, network };
  }
  return undefined;
}

/**
 * How many more NICs may be kept warm, of `limit` in all. None where the cloud does not say how many there are: it is a
 * saving only, and what is deleted can be made again.
 */
export async function warmRoom(
  cloud: Cloud,
  config: ClusterConfig,
  place: InstanceIdentity | undefined,
  limit: number,
  signal: AbortSignal,
): Promise<number> {
  if (limit === 0 || !place) return 0;
  try {
    const request = { tags: clusterTags(config), parentCIDR: config.parentCIDR, instance: place };
    const resources = await cloud.listResources(request, { signal, purpose: "clean-up" });
    return Math.max(0, limit - resources.filter(({ warm }) => warm).length);
  } catch {
    signal.throwIfAborted();
    return 0;
  }
}
