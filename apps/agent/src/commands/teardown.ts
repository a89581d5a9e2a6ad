import { type CloudJob, ConflictError, type NodeResources, type Store } from "@cocoon-net/core";
import { removeDropRules } from "@cocoon-net/host-linux";
import { recordedRegistration } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import { openCloud, openStore } from "../drivers.ts";
import { FileJob } from "../job-file.ts";
import { runningDaemon } from "../pid-file.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface TeardownFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly dryRun: boolean;
  readonly store?: string | undefined;
  readonly pidFile: string;
}

/**
 * Undoes init or adopt: cloud resources first, then the registration, then the files. What could not be deleted
 * stays on record, and the command fails, so that a repeat can finish it.
 */
export async function teardown(flags: TeardownFlags, context: CommandContext): Promise<void> {
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  const registration = await state.readRegistration();
  if (registration && flags.store === undefined) {
    throw new ConflictError(`node ${pool.nodeName} is registered in ${registration.store}`, {
      hint: "give that --store URL, so that its subnet goes back to the pool",
    });
  }
  if (flags.dryRun) {
    describe(pool, registration, state, flags, context);
    return;
  }
  context.requireRoot();
  const daemon = await runningDaemon(flags.pidFile);
  if (daemon !== undefined) {
    throw new ConflictError(`the daemon is still running (pid ${daemon}) and serves these addresses`, {
      hint: "stop it first",
    });
  }
  await using store =
    flags.store === undefined ? undefined : await openStore(flags.store, { signal: context.signal });
  const job = await FileJob.open(state.jobPath, "teardown");
  await releaseAtCloud(pool, registration, job, state, context);
  for (const change of await removeDropRules({ signal: context.signal })) context.say(change);
  if (store && registration) await leaveCluster(store, registration, context);
  await state.remove(
    flags.leaseFile,
    state.journalPath,
    state.registrationPath,
    state.jobPath,
    state.poolPath,
  );
  context.print(`${pool.nodeName} is torn down; ${pool.subnet} is free`);
}

/** Nothing at the cloud is touched that is not on record as this node's. */
async function releaseAtCloud(
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  job: CloudJob,
  state: StateDirectory,
  context: CommandContext,
): Promise<void> {
  if (!pool.eniIDs?.length && pool.subnetID === undefined && job.steps.length === 0) return;
  await using cloud = await openCloud(pool.platform);
  const target: NodeResources = {
    node: pool.nodeName,
    instanceID: registration?.instanceID ?? (await cloud.describeSelf({ signal: context.signal })).instanceID,
    subnet: pool.subnet,
    ...(pool.subnetID === undefined ? {} : { subnetID: pool.subnetID }),
    eniIDs: pool.eniIDs ?? [],
  };
  const options = { signal: context.signal, onProgress: (message: string) => context.say(message) };
  const fence = await cloud.fence(target, job, options);
  const { released, remaining } = await cloud.release(target, job, options);
  if (released.length > 0) context.say(`deleted ${released.join(", ")}`);
  if (remaining.length === 0 && fence.verified) return;
  await state.writePool({
    ...pool,
    eniIDs: remaining.map(({ id }) => id).filter((id) => pool.eniIDs?.includes(id)),
  });
  const list = remaining.map(({ id, reason }) => `${id} (${reason})`).join(", ");
  throw new ConflictError(
    `the cloud still has ${list || fence.evidence} of ${pool.nodeName}; nothing else was removed`,
    {
      hint: "run teardown again",
    },
  );
}

async function leaveCluster(store: Store, file: RegistrationFile, context: CommandContext): Promise<void> {
  const { subnet, epoch } = file;
  if (subnet === undefined || epoch === undefined) return;
  const registration = await recordedRegistration(store, { ...file, subnet, epoch }, context.signal);
  await registration.leave({ signal: context.signal });
  context.say(`gave ${subnet} back in ${store.label}`);
}

function describe(
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  state: StateDirectory,
  flags: TeardownFlags,
  context: CommandContext,
): void {
  for (const id of pool.eniIDs ?? []) context.print(`would detach and delete: ${id}`);
  context.print("would remove: iptables rules tagged cocoon-net-drop");
  if (registration) context.print(`would give back: ${pool.subnet} in ${registration.store}`);
  context.print(`would delete: ${state.poolPath}, ${flags.leaseFile}`);
}
