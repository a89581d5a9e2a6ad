import { type CallOptions, ConflictError } from "@cocoon-net/core";
import { cloudBudget } from "./cloud-config.ts";
import { resourcesOf } from "./cloud-provision.ts";
import type { CommandContext } from "./command-context.ts";
import { openCloud } from "./drivers.ts";
import { FileJob } from "./job-file.ts";
import type { PoolFile, RegistrationFile, StateDirectory } from "./state-directory.ts";

/** Whether the cloud may have something of this node. Where not, no driver is needed. */
export async function hasCloudResources(pool: PoolFile, state: StateDirectory): Promise<boolean> {
  return (
    pool.subnetID !== undefined ||
    pool.aliasRangeName !== undefined ||
    (pool.eniIDs ?? []).length > 0 ||
    (await FileJob.leftSteps(state.jobPath)).length > 0
  );
}

/**
 * Takes back what init made at the cloud for the pool on record. Only what is recorded or tagged as this node's is
 * touched (G11).
 * @throws {ConflictError} when something remains; it stays on record, so that a repeat can finish it
 */
export async function releaseAtCloud(
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  state: StateDirectory,
  context: CommandContext,
): Promise<void> {
  const call: CallOptions = { signal: context.signal };
  await using cloud = await openCloud(pool.platform, context.drivers, { budget: cloudBudget(context.cloud) });
  const job = await FileJob.open(state.jobPath, "release");
  const target = await resourcesOf(cloud, pool, registration, context);
  const options = { ...call, onProgress: (message: string) => context.say(message) };
  const fence = await cloud.fence(target, job, options);
  const { released, remaining } = await cloud.release(target, job, options);
  if (released.length > 0) context.say(`deleted ${released.join(", ")}`);
  if (remaining.length === 0 && fence.verified) {
    await job.finish();
    return;
  }
  await state.writePool({
    ...pool,
    eniIDs: remaining.map(({ id }) => id).filter((id) => pool.eniIDs?.includes(id)),
  });
  const list = remaining.map(({ id, reason }) => `${id} (${reason})`).join(", ");
  throw new ConflictError(
    `the cloud still has ${list || fence.evidence} of ${pool.nodeName}; nothing else was removed`,
    { hint: "run it again" },
  );
}
