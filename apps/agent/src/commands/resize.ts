import { contains, counted, InvalidError, NotFoundError, parseAddress, parseCidr } from "@cocoon-net/core";
import { cloudBudget } from "../cloud-config.ts";
import { provisionPool, recordNetwork, resourcesOf } from "../cloud-provision.ts";
import type { CommandContext } from "../command-context.ts";
import { openCloud } from "../drivers.ts";
import { setUpThisHost } from "../host-marks.ts";
import { FileJob } from "../job-file.ts";
import { movedAwayFrom } from "../moved-file.ts";
import { addressesIn, hostPlanOf } from "../node-plan.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface ResizeFlags {
  readonly stateDir: string;
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
  await finishLeft(state, pool, registration, context);
  if (flags.release !== undefined) {
    const released = addressesIn(flags.release);
    const subnet = parseCidr(pool.subnet);
    const stray = released.find((text) => !contains(subnet, { base: parseAddress(text), prefix: 32 }));
    if (stray !== undefined)
      throw new NotFoundError(`${stray} is no address of this node: it has ${pool.subnet}`);
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
  context.print(JSON.stringify({ addresses: now.ips.length, ...(short === undefined ? {} : { short }) }));
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
  const addresses = last?.detail?.addresses?.split(",");
  if (addresses) await releaseAddresses(state, pool, registration, addresses, context);
}
