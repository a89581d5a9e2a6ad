import { readFile } from "node:fs/promises";
import { type DisposeStack, formatAddress } from "@cocoon-net/core";
import { FloodGuard, type Granting } from "@cocoon-net/dhcp";
import {
  announceByArp,
  applyMoved,
  type BridgePorts,
  bringUpLinksByMAC,
  openArpProbe,
  openBridgePorts,
  openDhcpSocket,
  openHostNetwork,
} from "@cocoon-net/host-linux";
import { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import { guardRoutes } from "../guest-agent.ts";
import { setUpThisHost } from "../host-marks.ts";
import type { Logger } from "../log.ts";
import { hostPlanOf } from "../node-plan.ts";
import { parseArpTable } from "../unaccounted-routes.ts";
import type { Assignment } from "./assignment.ts";

const bridge = "cni0";

/** Sets the host up, and serves DHCP on its bridge. */
export async function startBuiltinServer(
  assignment: Assignment,
  env: NodeJS.ProcessEnv,
  parts: DisposeStack,
): Promise<BuiltinLeaseBook> {
  const { flags, pool, state, registered, dhcp, moved, log, signal } = assignment;
  const network = parts.use(openHostNetwork());
  const plan = hostPlanOf(pool, { manageIptables: !flags.skipIptables, cniConflist: flags.cniConflist });
  const host = await setUpThisHost(plan, state, { network, signal });
  for (const change of host.changes) log.info(change);
  for (const warning of host.warnings) log.warn(warning);
  const movedIn = (): string[] =>
    (moved?.places() ?? []).filter(({ home }) => home).map(({ address }) => formatAddress(address));
  const guard = await guardRoutes({ node: pool, movedIn, network, env, log });
  if (guard) parts.use(guard);
  if (!pool.dnsServers?.length) log.warn("pool.json names no DNS servers; guests get public ones");
  // With a store nothing new is granted before it has confirmed that the subnet is ours (G7, G9).
  const granting: Granting = flags.store === undefined ? "open" : "renew-only";
  const ports = bridgePorts(log);
  if (ports) parts.use(ports);
  const probe = parts.use(openArpProbe({ device: bridge }));
  let serving: BuiltinLeaseBook | undefined;
  let settingUp = Promise.resolve();
  const setUpAgain = async (): Promise<void> => {
    log.warn(`${bridge} was made anew, or down; it is set up again`);
    try {
      await setUpThisHost(plan, state, { network, signal });
      await serving?.restoreRoutes();
      await moved?.restore();
    } catch (error) {
      log.error({ err: error }, `${bridge} cannot be set up`);
    }
  };
  const book = await BuiltinLeaseBook.start(
    {
      pool,
      state,
      leaseFile: flags.leaseFile,
      leaseMs: registered?.leaseMs ?? dhcp.leaseMs,
      granting,
      moved: moved?.places(),
      dhcp,
      guard: new FloodGuard({ ...dhcp.limits, ...(ports === undefined ? {} : { ports }) }),
      probe,
      log,
      network: {
        addRoute: (ip) => network.replaceHostRoute(ip, bridge),
        addRoutes: (ips) => network.replaceHostRoutes(ips, bridge),
        removeRoute: async (ip) => void (await network.deleteHostRoute(ip, bridge)),
        setNeighbour: (ip, mac) => network.replaceNeighbour(ip, mac, bridge),
        listRoutes: () => network.listHostRoutes(bridge),
        listNeighbours: async () => parseArpTable(await readFile("/proc/net/arp", "utf8"), bridge),
      },
      openSocket: () =>
        openDhcpSocket({
          device: bridge,
          onError: (error) => log.warn({ err: error }, "DHCP socket"),
          onLinkBack: () => {
            settingUp = settingUp.then(setUpAgain);
          },
        }),
    },
    signal,
  );
  serving = book;
  parts.use(book);
  if (moved) {
    parts.use(moved);
    await moved.attach({
      book,
      host: {
        async apply(moving) {
          const manageIptables = !flags.skipIptables;
          const { primaryNIC } = pool;
          const changes = await applyMoved(
            { bridge, primaryNIC, manageIptables, ...moving },
            { network, signal },
          );
          for (const change of changes) log.info(change);
        },
        async bringUp(macs) {
          const nics = await bringUpLinksByMAC(macs, { network, signal });
          const secondaryNICs = [...new Set([...(pool.secondaryNICs ?? []), ...nics])];
          await setUpThisHost({ ...plan, secondaryNICs }, state, { network, signal });
        },
        announce: (announcements) => announceByArp(announcements, bridge),
      },
    });
  }
  return book;
}

/** Older kernels do not tell which port a guest is behind: then guests are told apart by their MACs only. */
function bridgePorts(log: Logger): BridgePorts | undefined {
  try {
    return openBridgePorts(bridge);
  } catch (error) {
    log.warn({ err: error }, "the bridge does not say which port a guest is behind");
    return undefined;
  }
}
