import { DisposeStack, type Registration, type Store } from "@cocoon-net/core";
import { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import { ClusterLink } from "../cluster-link.ts";
import { joinCluster, recordedRegistration, rememberIn } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import type { ControllerFlags } from "../controller-run.ts";
import { type Assignment, type DaemonFlags, readAssignment } from "../daemon/assignment.ts";
import { startBuiltinServer } from "../daemon/builtin-server.ts";
import { reloadOnHangup } from "../daemon/config-reload.ts";
import { startController } from "../daemon/joined-controller.ts";
import { keepPool } from "../daemon/kept-pool.ts";
import { followDeparture } from "../departure.ts";
import { openStore } from "../drivers.ts";
import { FollowedLeaseBook } from "../followed-lease-book.ts";
import type { LeaseBook } from "../lease-book.ts";
import { renderMetrics } from "../metrics.ts";
import { parseListenAddress, serveMetrics } from "../metrics-server.ts";
import { defaultPidFile, holdPidFile } from "../pid-file.ts";
import type { PoolKeeper } from "../pool-keeper.ts";
import { reasonsNotReady } from "../readiness.ts";
import { reportService } from "../service.ts";
import { agentVersion } from "../version.ts";
import { serveVmSocket } from "../vm-socket.ts";

/** Beside another DHCP server there may be that program's own daemon, with its own pid file. */
const followerPidFile = "/run/cocoon-net-sync.pid";

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
      ? await startBuiltinServer(assignment, context.env, parts)
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
