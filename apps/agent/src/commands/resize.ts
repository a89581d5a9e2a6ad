import {
  ConflictError,
  contains,
  counted,
  InvalidError,
  NotFoundError,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { leasesOnDisk } from "@cocoon-net/dhcp";
import { cloudBudget } from "../cloud-config.ts";
import { provisionPool, recordNetwork, resourcesOf } from "../cloud-provision.ts";
import type { CommandContext } from "../command-context.ts";
import { openCloud } from "../drivers.ts";
import { setUpThisHost } from "../host-marks.ts";
import { FileJob } from "../job-file.ts";
import { movedAwayFrom } from "../moved-file.ts";
import { addressesIn, hostPlanOf } from "../node-plan.ts";
import { runningDaemon } from "../pid-file.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface ResizeFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly pidFile: string;
  readonly poolSize?: number | undefined;
  readonly release?: string | undefined;
  readonly skipIptables: boolean;
  readonly cniConflist?: string | undefined;
}

/**
 * Changes how many addresses the node has at the cloud, while its daemon runs: more in all, or some of them less. The
 * daemon runs it too, so that the cloud's SDK is never part of it. Prints what the node has then, as JSON.
 */
export async function resize(flags: ResizeFlags, context: CommandContext): Promise<void> {
  context.requireRoot();
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  const registration = await state.readRegistration();
  const daemon = await strangeDaemon(flags.pidFile);
  await finishLeft(state, pool, registration, context);
  if (flags.release !== undefined) {
    const released = addressesIn(flags.release);
    if (daemon !== undefined) {
      throw new ConflictError(`the daemon is running (pid ${daemon}) and may grant ${released.join(", ")}`, {
        hint: "stop it first; with `init --pool-target` it gives back by itself what nobody needs",
      });
    }
    await requireUnused(released, pool, state, flags);
    await releaseAddresses(state, await state.readPool(), registration, released, context);
  }
  let short: string | undefined;
  if (flags.poolSize !== undefined) {
    short = await growTo(state, await state.readPool(), registration, flags.poolSize, context);
  }
  const now = await state.readPool();
  const manageIptables = !flags.skipIptables;
  await setUpThisHost(hostPlanOf(now, { manageIptables, cniConflist: flags.cniConflist }), state, {
    signal: context.signal,
  });
  if (daemon !== undefined && flags.poolSize !== undefined) {
    context.say("the running daemon grants what is new once it has been restarted");
  }
  context.print(JSON.stringify({ addresses: now.ips.length, ...(short === undefined ? {} : { short }) }));
}

/** The pid of a running daemon, unless this is the process that it lets do its work: that one sets aside first. */
async function strangeDaemon(pidFile: string): Promise<number | undefined> {
  const pid = await runningDaemon(pidFile);
  return pid === process.ppid ? undefined : pid;
}

/** G2: an address that is taken from the node is nobody's. @throws {NotFoundError} @throws {ConflictError} */
async function requireUnused(
  addresses: readonly string[],
  pool: PoolFile,
  state: StateDirectory,
  { leaseFile }: ResizeFlags,
): Promise<void> {
  const subnet = parseCidr(pool.subnet);
  const stray = addresses.find((text) => !contains(subnet, parseAddress(text)));
  if (stray !== undefined)
    throw new NotFoundError(`${stray} is no address of this node: it has ${pool.subnet}`);
  const away = await movedAwayFrom(state, pool);
  const moved = addresses.find((text) => away.includes(text));
  if (moved !== undefined)
    throw new ConflictError(`${moved} is served by another node: it has been moved there`);
  const now = Date.now();
  const leases = await leasesOnDisk({ journalPath: state.journalPath, leasesFilePath: leaseFile, now });
  const lease = leases.find(({ ip }) => addresses.includes(ip));
  if (lease === undefined) return;
  const until = new Date(lease.expiry).toISOString();
  throw new ConflictError(`${lease.ip} is leased to ${lease.mac} until ${until}`, {
    hint: `nothing was given back; ${leaseFile} has the leases`,
  });
}

async function growTo(
  state: StateDirectory,
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  poolSize: number,
  context: CommandContext,
): Promise<string | undefined> {
  if (poolSize < pool.ips.length) {
    throw new InvalidError(`the node has ${counted(pool.ips.length, "address", "addresses")} already`, {
      hint: "name those to give back with --release",
    });
  }
  await using cloud = await openCloud(pool.platform, context.drivers, { budget: cloudBudget(context.cloud) });
  const instance = await cloud.describeSelf({ signal: context.signal });
  const job = await FileJob.open(state.jobPath, "grow");
  const { ips: _, updatedAt: __, ...base } = pool;
  const owner = { clusterUID: registration?.clusterUID, parentCIDR: registration?.parentCIDR };
  const movedAway = await movedAwayFrom(state, pool);
  const request = { instance, owner, base, poolSize, movedAway };
  const { network } = await provisionPool(cloud, request, state, job, context);
  await job.finish();
  return network.short?.reason;
}

const shrinking = "shrink";

/** The addresses leave the pool on disk first: what is taken from the node was granted to nobody after a crash either. */
async function releaseAddresses(
  state: StateDirectory,
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  addresses: readonly string[],
  context: CommandContext,
): Promise<void> {
  const job = await FileJob.open(state.jobPath, shrinking);
  await job.record({
    action: shrinking,
    phase: "intent",
    key: "addresses",
    detail: { addresses: addresses.join(",") },
  });
  const left = { ...pool, ips: pool.ips.filter((address) => !addresses.includes(address)) };
  await state.writePool(left);
  await using cloud = await openCloud(pool.platform, context.drivers, { budget: cloudBudget(context.cloud) });
  const target = await resourcesOf(cloud, pool, registration, context);
  const network = await cloud.shrink(target, addresses, job, {
    signal: context.signal,
    onProgress: (message) => context.say(message),
  });
  const kept = new Set(left.ips);
  // What the cloud still has although it was to go stays out of the pool.
  const addressesLeft = network.addresses.filter((address) => kept.has(address));
  const { ips: _, updatedAt: __, ...base } = left;
  await recordNetwork(state, base, { ...network, addresses: addressesLeft }, context);
  await job.finish();
}

/** What a crash left: addresses that are out of the pool, and still at the cloud. A growth is repeated by its caller. */
async function finishLeft(
  state: StateDirectory,
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  context: CommandContext,
): Promise<void> {
  const steps = await FileJob.leftSteps(state.jobPath);
  const last = steps.findLast(({ action }) => action === shrinking);
  // What the pool still has was not taken out before the crash: it may have been granted since.
  const addresses = last?.detail?.addresses?.split(",").filter((address) => !pool.ips.includes(address));
  if (addresses?.length === 0) await (await FileJob.open(state.jobPath, shrinking)).finish();
  else if (addresses) await releaseAddresses(state, pool, registration, addresses, context);
}
