import { DisposeStack, InvalidError, type Registration, type Store } from "@cocoon-net/core";
import { openDhcpSocket, openHostNetwork, setUpHost } from "@cocoon-net/host-linux";
import { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import { ClusterLink } from "../cluster-link.ts";
import { joinCluster, recordedRegistration } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import { openStore } from "../drivers.ts";
import { parseDuration } from "../duration.ts";
import { FollowedLeaseBook } from "../followed-lease-book.ts";
import type { LeaseBook } from "../lease-book.ts";
import { createLogger, type Logger } from "../log.ts";
import { createMetrics, serveMetrics } from "../metrics.ts";
import { checkPool, hostPlanOf } from "../node-plan.ts";
import { defaultPidFile, holdPidFile } from "../pid-file.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface DaemonFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly skipIptables: boolean;
  readonly metricsAddr: string;
  readonly leaseSource: string;
  readonly sessionTtl: string;
  readonly pidFile: string;
  readonly store?: string | undefined;
  readonly parentCidr?: string | undefined;
  readonly cniConflist?: string | undefined;
}

const bridge = "cni0";
/** Beside another DHCP server there may be that program's own daemon, with its own pid file. */
const followerPidFile = "/run/cocoon-net-sync.pid";

export async function daemon(flags: DaemonFlags, context: CommandContext): Promise<void> {
  const log = createLogger(context.env);
  const follow = followedFile(flags.leaseSource);
  if (follow !== undefined && flags.store === undefined) {
    throw new InvalidError("--lease-source file: does nothing without a store", { hint: "give --store URL" });
  }
  const sessionTtlMs = parseDuration(flags.sessionTtl);
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  checkPool(pool, state.poolPath);
  const registered = await state.readRegistration();
  if (registered && flags.store === undefined) {
    throw new InvalidError(`node ${pool.nodeName} is registered in ${registered.store}`, {
      hint: "give its --store URL",
    });
  }
  if (follow === undefined) context.requireRoot();
  const pidFile = follow !== undefined && flags.pidFile === defaultPidFile ? followerPidFile : flags.pidFile;
  await using parts = new DisposeStack();
  parts.use(await holdPidFile(pidFile));
  const register = registration(flags, pool, state, registered, context);
  // A node that was never registered must be before it grants; one that was may serve its guests meanwhile.
  const granting = flags.store === undefined ? "open" : "renew-only";
  const book =
    follow === undefined
      ? await builtin(flags, pool, state, granting, parts, log, context.signal)
      : parts.use(await FollowedLeaseBook.start(follow, pool, log));
  const { store: url } = flags;
  const open = (signal: AbortSignal): Promise<Store> => openStore(url ?? "", { signal });
  const link = url === undefined ? undefined : new ClusterLink({ open, register, book, sessionTtlMs, log });
  if (flags.metricsAddr !== "") parts.use(serveMetrics(flags.metricsAddr, metricsOf(book, link), log));
  log.info(
    { node: pool.nodeName, subnet: pool.subnet, addresses: pool.ips.length, source: flags.leaseSource },
    "serving",
  );
  const stopped = new Promise<void>((resolve) => {
    if (context.signal.aborted) resolve();
    context.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  const stop = new AbortController();
  const onAbort = (): void => stop.abort();
  context.signal.addEventListener("abort", onAbort, { once: true });
  // A link that ends because the subnet is lost leaves the server up: it tells the guests to leave.
  const linked = link?.run(stop.signal) ?? Promise.resolve();
  try {
    await Promise.race([stopped, linked.then(() => stopped)]);
  } finally {
    stop.abort();
    await linked.catch(() => undefined);
  }
  log.info("stopped");
}

async function builtin(
  flags: DaemonFlags,
  pool: PoolFile,
  state: StateDirectory,
  granting: "open" | "renew-only",
  parts: DisposeStack,
  log: Logger,
  signal: AbortSignal,
): Promise<BuiltinLeaseBook> {
  const network = parts.use(openHostNetwork());
  const plan = hostPlanOf(pool, { manageIptables: !flags.skipIptables, cniConflist: flags.cniConflist });
  const host = await setUpHost(plan, { network, signal });
  for (const change of host.changes) log.info(change);
  for (const warning of host.warnings) log.warn(warning);
  const book = await BuiltinLeaseBook.start(
    {
      pool,
      state,
      leaseFile: flags.leaseFile,
      granting,
      log,
      network: {
        addRoute: (ip) => network.replaceHostRoute(ip, bridge),
        removeRoute: async (ip) => void (await network.deleteHostRoute(ip, bridge)),
        setNeighbour: (ip, mac) => network.replaceNeighbour(ip, mac, bridge),
        listRoutes: () => network.listHostRoutes(bridge),
      },
      openSocket: () =>
        openDhcpSocket({ device: bridge, onError: (error) => log.warn({ err: error }, "DHCP socket") }),
    },
    signal,
  );
  return parts.use(book);
}

/** How the node proves who it is: by the epoch on record, or, the first time, by registering its subnet. */
function registration(
  flags: DaemonFlags,
  pool: PoolFile,
  state: StateDirectory,
  file: RegistrationFile | undefined,
  context: CommandContext,
): (store: Store) => Promise<Registration> {
  return (store) => {
    if (file?.epoch !== undefined && file.subnet !== undefined) {
      const { subnet, epoch } = file;
      if (subnet !== pool.subnet) {
        throw new InvalidError(
          `${state.poolPath} has ${pool.subnet}, but the node is registered with ${subnet}`,
          {
            hint: "run init or adopt again",
          },
        );
      }
      return recordedRegistration(store, { ...file, subnet, epoch }, context.signal);
    }
    return joinCluster(store, state, {
      node: pool.nodeName,
      subnet: pool.subnet,
      platform: pool.platform,
      parentCIDR: flags.parentCidr,
      leaseSource: flags.leaseSource,
      subnetID: pool.subnetID,
      eniIDs: pool.eniIDs,
      signal: context.signal,
    });
  };
}

function metricsOf(book: LeaseBook, link: ClusterLink | undefined) {
  return createMetrics({
    grants: () => (book instanceof BuiltinLeaseBook ? book.stats.grants : { ok: 0, failed: 0 }),
    available: () => book.use().free,
    active: () => book.use().leased,
    ...(link ? { mirrorLag: () => link.mirrorLag, owned: () => Number(link.state === "owned") } : {}),
  });
}

function followedFile(source: string): string | undefined {
  if (source === "builtin") return undefined;
  const path = /^file:(.+)$/.exec(source)?.[1];
  if (path !== undefined) return path;
  throw new InvalidError(`--lease-source "${source}" is neither builtin nor file:PATH`);
}
