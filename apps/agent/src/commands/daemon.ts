import { DisposeStack } from "@cocoon-net/core";
import { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import type { ClusterLink } from "../cluster-link.ts";
import type { CommandContext } from "../command-context.ts";
import { serveControlSocket } from "../control-socket.ts";
import type { ControllerFlags } from "../controller-run.ts";
import { type DaemonFlags, readAssignment } from "../daemon/assignment.ts";
import { startBuiltinServer } from "../daemon/builtin-server.ts";
import { reloadOnHangup } from "../daemon/config-reload.ts";
import { startController } from "../daemon/joined-controller.ts";
import { FollowedLeaseBook } from "../followed-lease-book.ts";
import type { LeaseBook } from "../lease-book.ts";
import { parseListenAddress } from "../listen-address.ts";
import { renderMetrics } from "../metrics.ts";
import { serveMetrics } from "../metrics-server.ts";
import { defaultPidFile, holdPidFile } from "../pid-file.ts";
import type { PoolKeeper } from "../pool-keeper.ts";
import { reasonsNotReady } from "../readiness.ts";
import { reportService } from "../service.ts";

// Not loaded where a node has no use for it.
const pools = () => import("../daemon/kept-pool.ts");
const stores = () => import("../daemon/store-link.ts");

/** Beside another DHCP server there may be that program's own daemon, with its own pid file. */
const followerPidFile = "/run/cocoon-net-sync.pid";

export async function daemon(
  flags: DaemonFlags,
  controller: ControllerFlags,
  context: CommandContext,
): Promise<void> {
  const assignment = await readAssignment(flags, context);
  const { pool, follow, log } = assignment;
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
    url === undefined ? undefined : (await stores()).linkToStore(url, assignment, book, context, parts);
  if (pool.ips.length === 0) {
    log.warn(`${assignment.state.poolPath} has no addresses: init did not finish; run it again`);
  }
  let controllerMetrics = (): string => "";
  const keeper =
    book instanceof BuiltinLeaseBook && pool.poolPolicy !== undefined
      ? (await pools()).keepPool(assignment, pool.poolPolicy, book, link, context.drivers?.file, parts)
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
  const controlSocket = flags.controlSocket ?? assignment.state.controlSocketPath;
  if (book instanceof BuiltinLeaseBook && controlSocket !== "") {
    parts.use(await serveControlSocket(controlSocket, book, log));
  }
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
