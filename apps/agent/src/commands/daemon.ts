import { readFile } from "node:fs/promises";
import {
  Backoff,
  ConflictError,
  DisposeStack,
  describeError,
  formatAddress,
  InvalidError,
  type Registration,
  type Store,
} from "@cocoon-net/core";
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
import { runOwnCommand } from "../child-command.ts";
import { ClusterLink } from "../cluster-link.ts";
import { joinCluster, recordedRegistration, rememberIn } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import type { ControllerFlags } from "../controller-run.ts";
import { followDeparture } from "../departure.ts";
import type { DhcpConfig } from "../dhcp-settings.ts";
import { checkStoreUrl, openStore } from "../drivers.ts";
import { FollowedLeaseBook, type LeaseFile, parseLeaseSource } from "../followed-lease-book.ts";
import { guardRoutes } from "../guest-agent.ts";
import { setUpThisHost } from "../host-marks.ts";
import type { LeaseBook } from "../lease-book.ts";
import { checkLevel, createLogger, type Logger } from "../log.ts";
import { renderMetrics } from "../metrics.ts";
import { parseListenAddress, serveMetrics } from "../metrics-server.ts";
import { MovedGuests } from "../moved-guests.ts";
import { checkPool, hostPlanOf } from "../node-plan.ts";
import { defaultPidFile, holdPidFile } from "../pid-file.ts";
import { PoolKeeper } from "../pool-keeper.ts";
import { reasonsNotReady } from "../readiness.ts";
import { reportService } from "../service.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";
import { parseArpTable } from "../unaccounted-routes.ts";
import { agentVersion } from "../version.ts";
import { serveVmSocket } from "../vm-socket.ts";

export interface DaemonFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly skipIptables: boolean;
  readonly metricsAddr: string;
  readonly leaseSource: string;
  /** Milliseconds. */
  readonly sessionTtl: number;
  readonly pidFile: string;
  readonly controller: boolean;
  readonly vmSocket?: string | undefined;
  readonly logLevel?: string | undefined;
  readonly store?: string | undefined;
  readonly parentCidr?: string | undefined;
  readonly cniConflist?: string | undefined;
}

const bridge = "cni0";
/** Beside another DHCP server there may be that program's own daemon, with its own pid file. */
const followerPidFile = "/run/cocoon-net-sync.pid";

/** What the daemon is to do, checked before it touches anything. */
interface Assignment {
  readonly flags: DaemonFlags;
  readonly state: StateDirectory;
  readonly pool: PoolFile;
  readonly registered: RegistrationFile | undefined;
  /** The file of the DHCP server beside this agent; undefined when this agent serves. */
  readonly follow: LeaseFile | undefined;
  readonly dhcp: DhcpConfig;
  /** Undefined for a node without a store, or beside another DHCP server: it takes no part in moves. */
  readonly moved: MovedGuests | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

export async function daemon(
  flags: DaemonFlags,
  controller: ControllerFlags,
  context: CommandContext,
): Promise<void> {
  const assignment = await readAssignment(flags, context);
  const { pool, registered, follow, moved, log } = assignment;
  const metricsAt = flags.metricsAddr === "" ? undefined : parseListenAddress(flags.metricsAddr);
  const pidFile = follow !== undefined && flags.pidFile === defaultPidFile ? followerPidFile : flags.pidFile;

  await using parts = new DisposeStack();
  parts.use(await holdPidFile(pidFile));
  const book =
    follow === undefined
      ? await builtin(assignment, context.env, parts)
      : parts.use(await FollowedLeaseBook.start(follow, pool, log));
  const { store: url } = flags;
  const link =
    url === undefined
      ? undefined
      : new ClusterLink({
          open: (signal) => openStore(url, { signal, drivers: context.drivers }),
          register: registrar(assignment),
          book,
          moved,
          sessionTtlMs: flags.sessionTtl,
          joined: registered?.epoch !== undefined,
          facts: { agentVersion, leaseSource: flags.leaseSource, gateway: pool.gateway },
          onLost: async () => {
            await recordLoss(assignment);
            await moved?.lose();
          },
          log,
        });
  if (pool.ips.length === 0) {
    log.warn(`${assignment.state.poolPath} has no addresses: init did not finish; run it again`);
  }
  let controllerMetrics = (): string => "";
  const keeper =
    book instanceof BuiltinLeaseBook
      ? keepPool(assignment, book, link, context.drivers?.file, parts)
      : undefined;
  if (metricsAt)
    parts.use(
      serveMetrics(
        metricsAt,
        {
          metrics: () => metricsOf(book, link, keeper) + controllerMetrics(),
          notReady: () =>
            reasonsNotReady({
              stats: book instanceof BuiltinLeaseBook ? book.stats : undefined,
              link: link?.state,
              draining: link?.draining ?? false,
            }),
        },
        log,
      ),
    );
  const vmSocket = flags.vmSocket ?? assignment.state.vmSocketPath;
  if (book instanceof BuiltinLeaseBook && vmSocket !== "") {
    parts.use(await serveVmSocket(vmSocket, book, log));
  }
  parts.use(
    followDeparture({
      platform: pool.platform,
      drivers: context.drivers,
      env: context.env,
      tell: async (why) => await link?.depart(why),
      log,
    }),
  );
  if (flags.controller && url !== undefined) {
    parts.use(
      await startController(url, controller, assignment, context, (render) => {
        controllerMetrics = render;
      }),
    );
  }
  log.info({ subnet: pool.subnet, addresses: pool.ips.length, source: flags.leaseSource }, "serving");
  using _ = reportService(context.env, log);
  using _reload = reloadOnHangup(context, assignment, book, link);
  await untilStopped(link, context.signal);
  log.info("stopped");
}

/** SIGHUP: what the config file says of DHCP and the log's level counts from now on; the rest is named. */
function reloadOnHangup(
  { reload, onHangup }: CommandContext,
  { log }: Assignment,
  book: LeaseBook,
  link: ClusterLink | undefined,
): Disposable | undefined {
  let running: Promise<void> = Promise.resolve();
  const once = async (): Promise<void> => {
    if (!reload) return log.warn("SIGHUP: there is no config file to read again; --config names one");
    const { dhcp = {}, logLevel, changed } = await reload();
    const level = logLevel ?? "info";
    checkLevel(level);
    if (book instanceof BuiltinLeaseBook) {
      book.setDhcp(dhcp);
      if (!link) book.setLeaseTime(dhcp.leaseMs ?? day);
    }
    log.level = level;
    const ours = changed.filter(concernsDaemon);
    const waiting = ours.filter((key) => !isLive(key, link !== undefined));
    if (waiting.length > 0)
      log.warn({ settings: waiting }, "changed in the config file, but only a restart takes them over");
    log.info({ changed: ours.filter((key) => !waiting.includes(key)) }, "config file read again");
  };
  return onHangup?.(() => {
    running = running
      .then(once)
      .catch((error: unknown) =>
        log.error({ err: error }, `config file not taken over: ${describeError(error)}`),
      );
  });
}

const day = 86_400_000;

/** Settings under another command's name are none of the daemon's. */
function concernsDaemon(key: string): boolean {
  return !key.includes(".") || /^(daemon|controller|drivers|dhcp)\./.test(key);
}

/** With a store the lease time is the cluster's. */
function isLive(key: string, hasStore: boolean): boolean {
  if (key === "dhcp.leaseTime") return !hasStore;
  return /^(daemon\.)?logLevel$|^dhcp\.(?!probe$|limits$)/.test(key);
}

const resizeTimeoutMs = 900_000;

/** Lets the pool follow demand, where the node has a policy for that. Cloud work is done by a process of its own. */
function keepPool(
  { flags, state, pool: { poolPolicy }, log }: Assignment,
  book: BuiltinLeaseBook,
  link: ClusterLink | undefined,
  configFile: string | undefined,
  parts: DisposeStack,
): PoolKeeper | undefined {
  if (poolPolicy === undefined) return undefined;
  const resize = (args: readonly string[], signal: AbortSignal): Promise<string> => {
    const host = [
      ...(flags.skipIptables ? ["--skip-iptables"] : []),
      ...(flags.cniConflist === undefined ? [] : ["--cni-conflist", flags.cniConflist]),
    ];
    const config = configFile === undefined ? [] : ["--config", configFile];
    return runOwnCommand([...config, "resize", "--state-dir", state.path, ...host, ...args], {
      signal,
      timeoutMs: resizeTimeoutMs,
      onProgress: (line) => log.info(`resize: ${line}`),
    });
  };
  const keeper = parts.use(
    new PoolKeeper({
      policy: poolPolicy,
      pool: {
        state: () => book.use(),
        setAside: (count) => book.setAside(count),
        async reload() {
          const { ips, eniIDs = [], subnetID } = await state.readPool();
          book.setPool(ips);
          await link?.tell({ eniIDs, ...(subnetID === undefined ? {} : { subnetID }) });
        },
      },
      grow: async (size, signal) => {
        const { short } = JSON.parse(await resize(["--pool-size", String(size)], signal)) as {
          short?: string;
        };
        return short;
      },
      release: async (addresses, signal) => void (await resize(["--release", addresses.join(",")], signal)),
      log,
    }),
  );
  book.onGuest((mac, outcome) => (outcome === "served" ? keeper.served(mac) : keeper.refused(mac)));
  return keeper;
}

/** A controller that cannot go on never stops the guests from being served. */
async function startController(
  url: string,
  flags: ControllerFlags,
  { log, signal }: Assignment,
  { drivers, cloud }: CommandContext,
  onMetrics: (render: () => string) => void,
): Promise<AsyncDisposable> {
  const [{ runController }, { cloudBudget }] = await Promise.all([
    import("../controller-run.ts"),
    import("../cloud-config.ts"),
  ]);
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const budget = cloudBudget(cloud);
  const backoff = new Backoff({ firstMs: 1_000, maxMs: 60_000 });
  const running = (async () => {
    while (!until.aborted) {
      const began = performance.now();
      await runController(flags, { url, drivers, budget, onMetrics, log, signal: until }).catch(
        (error: unknown) => {
          if (!until.aborted) log.error({ err: error }, `controller: ${describeError(error)}`);
        },
      );
      if (performance.now() - began > 600_000) backoff.reset();
      await backoff.wait(until).catch(() => undefined);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

async function readAssignment(flags: DaemonFlags, context: CommandContext): Promise<Assignment> {
  const logger = createLogger(context.env, flags.store, flags.logLevel);
  const follow = parseLeaseSource(flags.leaseSource);
  if (follow !== undefined && flags.store === undefined) {
    throw new InvalidError("--lease-source file: does nothing without a store", { hint: "give --store URL" });
  }
  if (flags.controller && flags.store === undefined) {
    throw new InvalidError("--controller does nothing without a store", { hint: "give --store URL" });
  }
  if (follow === undefined) context.requireRoot();
  if (flags.store !== undefined) checkStoreUrl(flags.store, context.drivers);
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  checkPool(pool, state.poolPath);
  const registered = await state.readRegistration();
  if (registered) checkRegistration(registered, flags, pool, state);
  const { dhcp = {}, signal } = context;
  const log = logger.child({ node: pool.nodeName });
  const moved =
    registered === undefined || follow !== undefined
      ? undefined
      : await MovedGuests.open({ pool, uid: registered.uid, state, log });
  return { flags, state, pool, registered, follow, dhcp, moved, log, signal };
}

function checkRegistration(
  { store, subnet, lostAt }: RegistrationFile,
  flags: DaemonFlags,
  pool: PoolFile,
  state: StateDirectory,
): void {
  const hint = "run init or adopt again";
  if (flags.store === undefined) {
    throw new InvalidError(`node ${pool.nodeName} is registered in ${store}`, {
      hint: "give its --store URL",
    });
  }
  if (lostAt !== undefined) {
    // G3: what was lost is somebody else's, also while the store cannot be asked.
    throw new ConflictError(`node ${pool.nodeName} lost ${subnet} at ${lostAt}`, {
      hint: `${hint} to join with a new subnet`,
    });
  }
  if (subnet !== undefined && subnet !== pool.subnet) {
    throw new InvalidError(
      `${state.poolPath} has ${pool.subnet}, but the node is registered with ${subnet}`,
      { hint },
    );
  }
}

/** A link that ends because the subnet is lost leaves the server up: it tells the guests to leave. */
async function untilStopped(link: ClusterLink | undefined, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  const linked = link?.run(stop.signal) ?? Promise.resolve();
  try {
    await Promise.race([stopped, linked.then(() => stopped)]);
  } finally {
    stop.abort();
    await linked.catch(() => undefined);
  }
}

async function builtin(
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
  const probe = dhcp.probe === false ? undefined : parts.use(openArpProbe({ device: bridge }));
  let serving: BuiltinLeaseBook | undefined;
  const setUpAgain = async (): Promise<void> => {
    log.warn(`${bridge} was made anew; it is set up again`);
    await setUpThisHost(plan, state, { network, signal });
    await serving?.restoreRoutes();
    await moved?.restore();
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
          onNewLink: () => {
            setUpAgain().catch((error: unknown) => log.error({ err: error }, `${bridge} cannot be set up`));
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

/** How the node proves who it is: by the epoch on record, or, the first time, by registering its subnet. */
function registrar({ flags, pool, state, log, signal }: Assignment): (store: Store) => Promise<Registration> {
  return async (store) => {
    const file = await state.readRegistration();
    if (file?.epoch !== undefined && file.subnet !== undefined) {
      const { subnet, epoch } = file;
      // As it is now: the pool follows demand.
      const { platform, subnetID, eniIDs } = await state.readPool();
      const registration = await recordedRegistration(
        store,
        { ...file, subnet, epoch },
        { signal, about: { platform, subnetID, eniIDs }, onChanged: rememberIn(state) },
      );
      const now = { store: store.label, leaseSource: flags.leaseSource };
      if (Object.entries(now).some(([name, value]) => file[name as keyof typeof now] !== value)) {
        await state.writeRegistration({ ...file, ...now });
      }
      return registration;
    }
    return joinCluster(store, state, {
      node: pool.nodeName,
      subnet: pool.subnet,
      platform: pool.platform,
      parentCIDR: flags.parentCidr,
      leaseSource: flags.leaseSource,
      subnetID: pool.subnetID,
      eniIDs: pool.eniIDs,
      signal,
      onWait: (message) => log.warn(message),
    });
  };
}

/** A restart must not serve the subnet again, in particular not while the store is away (G3). */
async function recordLoss({ state }: Assignment): Promise<void> {
  const file = await state.readRegistration();
  if (file) await state.writeRegistration({ ...file, lostAt: new Date().toISOString() });
}

function metricsOf(book: LeaseBook, link: ClusterLink | undefined, keeper: PoolKeeper | undefined): string {
  const stats = book instanceof BuiltinLeaseBook ? book.stats : undefined;
  return renderMetrics({
    server: () => stats,
    grants: () => stats?.grants ?? { ok: 0, failed: 0 },
    available: () => book.use().free,
    active: () => book.use().leased,
    ...(link ? { link: () => link } : {}),
    ...(keeper ? { waiting: () => keeper.waiting, short: () => keeper.short !== undefined } : {}),
  });
}
