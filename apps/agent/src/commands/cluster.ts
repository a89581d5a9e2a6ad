import { type ClusterInit, describeError, initCluster, newClusterConfig } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { checkPlatform, openStore } from "../drivers.ts";
import { usage } from "../failure.ts";

export interface ClusterInitFlags {
  readonly store: string;
  readonly parentCidr: string;
  readonly platform: string;
  // What is not given is the default of a new cluster, and anything in one that exists.
  readonly nodePrefix?: number;
  readonly reserve?: readonly string[];
  /** Milliseconds, as the other two. */
  readonly leaseTime?: number;
  readonly quarantine?: number;
  readonly reclaimAfter?: number;
}

export async function clusterInit(flags: ClusterInitFlags, context: CommandContext): Promise<void> {
  const { nodePrefix, reserve, leaseTime, quarantine, reclaimAfter } = flags;
  const wanted: ClusterInit = {
    parentCIDR: flags.parentCidr,
    platform: flags.platform,
    ...(nodePrefix === undefined ? {} : { nodePrefix }),
    ...(reserve === undefined ? {} : { reserved: reserve }),
    ...(leaseTime === undefined ? {} : { leaseMs: leaseTime }),
    ...(quarantine === undefined ? {} : { quarantineMs: quarantine }),
    ...(reclaimAfter === undefined ? {} : { reclaimAfterMs: reclaimAfter }),
  };
  usage(() => newClusterConfig(wanted));
  await using store = await openStore(flags.store, context);
  const { config } = await initCluster(store, wanted, { signal: context.signal });
  context.print(
    `cluster in ${store.label}: ${config.parentCIDR} in /${config.nodePrefix} subnets on ${config.platform}`,
  );
  try {
    checkPlatform(config.platform, context.drivers);
  } catch (error) {
    // Where the nodes and the controller run it may well be.
    context.say(`warning: ${describeError(error)}`);
  }
}
