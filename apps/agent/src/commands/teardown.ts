import { existsSync } from "node:fs";
import {
  ConflictError,
  contains,
  decode,
  FencedError,
  listAll,
  movedSchema,
  NotFoundError,
  parseAddress,
  parseCidr,
  prefixes,
  readCluster,
  type Store,
} from "@cocoon-net/core";
import { mustBeFile } from "@cocoon-net/dhcp";
import {
  applyMoved,
  type HostMark,
  openHostNetwork,
  removeDropRules,
  undoHost,
} from "@cocoon-net/host-linux";
import { hasCloudResources, releaseAtCloud } from "../cloud-release.ts";
import { recordedRegistration, storedRegistration } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import { openStore } from "../drivers.ts";
import { fixesOf, removeFixes } from "../guest-agent.ts";
import { readHostMarks } from "../host-marks.ts";
import { movedPathOf } from "../moved-file.ts";
import { runningDaemon } from "../pid-file.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface TeardownFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly dryRun: boolean;
  readonly store?: string | undefined;
  readonly pidFile: string;
}

const bridge = "cni0";

/**
 * Undoes init or adopt: cloud resources first, then the registration, then the files. What could not be deleted
 * stays on record, and the command fails, so that a repeat can finish it.
 */
export async function teardown(flags: TeardownFlags, context: CommandContext): Promise<void> {
  const state = new StateDirectory(flags.stateDir);
  const pool = await readPool(state);
  const registration = await state.readRegistration();
  if (registration && flags.store === undefined) {
    throw new ConflictError(`node ${pool.nodeName} is registered in ${registration.store}`, {
      hint: "give that --store URL, so that its subnet goes back to the pool",
    });
  }
  if (flags.dryRun) {
    await describe(pool, registration, state, await readHostMarks(state), flags, context);
    return;
  }
  context.requireRoot();
  await mustBeFile(flags.leaseFile);
  const daemon = await runningDaemon(flags.pidFile);
  if (daemon !== undefined) {
    throw new ConflictError(`the daemon is still running (pid ${daemon}) and serves these addresses`, {
      hint: "stop it first",
    });
  }
  await using store = flags.store === undefined ? undefined : await openStore(flags.store, context);
  if (store && registration) {
    await requireOwnCluster(store, registration, state, context);
    await refuseWhileMoved(store, pool, context);
  }
  if (await hasCloudResources(pool, state)) await releaseAtCloud(pool, registration, state, context);
  if (registration) {
    for (const change of await applyMoved({ away: [], guests: [] }, context)) context.say(change);
  }
  await leaveHost(pool, state, context);
  if (store && registration) await leaveCluster(store, registration, context);
  await removeFixes(pool);
  await state.remove(...filesOf(state, flags));
  context.print(`${pool.nodeName} is torn down; ${pool.subnet} is free`);
}

async function readPool(state: StateDirectory): Promise<PoolFile> {
  try {
    return await state.readPool();
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new NotFoundError(`${state.poolPath} does not exist: there is nothing to tear down`, {
      hint: "--state-dir names the directory of another node's files",
    });
  }
}

/** Before anything is undone: in another cluster, or in none, the node's subnet would not be given back. */
async function requireOwnCluster(
  store: Store,
  { clusterUID }: RegistrationFile,
  state: StateDirectory,
  { signal }: CommandContext,
): Promise<void> {
  // It has never joined: there is nothing to give back.
  if (clusterUID === undefined) return;
  try {
    await readCluster(store, { clusterUID, signal });
  } catch (error) {
    if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
    throw new ConflictError(error.message, {
      cause: error,
      hint: `give the URL of the node's own cluster; if that is gone for good, \`rm ${state.registrationPath}\` and repeat without --store`,
    });
  }
}

/**
 * An address that is served elsewhere is at the cloud, and whoever serves it is not asked here. A move that is asked for
 * after this look comes to nothing: this node would have to say that it is ready, and its daemon has stopped. So what
 * `leave` frees holds no moved address.
 */
async function refuseWhileMoved(store: Store, pool: PoolFile, { signal }: CommandContext): Promise<void> {
  const { entries } = await listAll(store, prefixes.moved, { signal });
  const block = parseCidr(pool.subnet);
  const moved = entries
    .map((entry) => ({ ip: entry.key.slice(prefixes.moved.length), ...decode(movedSchema, entry) }))
    .filter(
      ({ ip, node, move }) =>
        contains(block, parseAddress(ip)) || [node, move?.from, move?.to].includes(pool.nodeName),
    );
  if (moved.length === 0) return;
  throw new ConflictError(
    `${pool.nodeName} serves moved addresses, or has some away: ${moved.map(({ ip }) => ip).join(", ")}`,
    { hint: `run \`cocoon-net cluster drain ${pool.nodeName}\` while its daemon runs` },
  );
}

/** The host as it was found: what the set-up made goes. What the program before made is not on record, and stays. */
async function leaveHost(
  pool: PoolFile,
  state: StateDirectory,
  { signal, say }: CommandContext,
): Promise<void> {
  for (const change of await removeDropRules({ signal })) say(change);
  await using network = openHostNetwork();
  if ((await network.getLink({ name: bridge }, { signal })) !== undefined) {
    const ours = new Set(pool.ips);
    for (const address of await network.listHostRoutes(bridge, { signal })) {
      if (ours.has(address)) await network.deleteHostRoute(address, bridge, { signal });
    }
  }
  const { changes, left } = await undoHost(await readHostMarks(state), { network, signal });
  for (const line of [...changes, ...left]) say(line);
}

async function leaveCluster(store: Store, file: RegistrationFile, context: CommandContext): Promise<void> {
  const { signal } = context;
  const { subnet, epoch } = file;
  const registration =
    subnet === undefined || epoch === undefined
      ? await storedRegistration(store, file, signal)
      : await recordedRegistration(store, { ...file, subnet, epoch }, { signal });
  if (registration === undefined) return;
  try {
    await registration.leave({ signal });
    context.say(`gave ${registration.subnet} back in ${store.label}`);
  } catch (error) {
    // What is to be given back was taken away before: nothing is left to do there.
    if (!(error instanceof FencedError)) throw error;
    context.say(`${registration.subnet} was taken back in ${store.label} already`);
  }
}

/** `pool.json` last: as long as it is there, a teardown that was cut off can be repeated. */
function filesOf(state: StateDirectory, { leaseFile }: TeardownFlags): string[] {
  return [
    leaseFile,
    state.journalPath,
    state.registrationPath,
    state.jobPath,
    state.hostPath,
    state.controlSocketPath,
    movedPathOf(state),
    state.poolPath,
  ];
}

async function describe(
  pool: PoolFile,
  registration: RegistrationFile | undefined,
  state: StateDirectory,
  made: readonly HostMark[],
  flags: TeardownFlags,
  context: CommandContext,
): Promise<void> {
  for (const id of pool.eniIDs ?? []) context.print(`would detach and delete: ${id}`);
  context.print("would remove: iptables rules tagged cocoon-net-drop");
  for (const mark of made) context.print(`would take back: ${describeMark(mark)}`);
  if (registration) context.print(`would give back: ${pool.subnet} in ${registration.store}`);
  const fixes = fixesOf(pool)?.files.map(({ path }) => path) ?? [];
  const files = [...fixes, ...filesOf(state, flags)].filter((path) => existsSync(path));
  context.print(`would delete: ${files.join(", ")}`);
}

function describeMark(mark: HostMark): string {
  if (mark.kind === "bridge") return `bridge ${mark.name}, unless something is plugged into it`;
  if (mark.kind === "address") return `address ${mark.address} on ${mark.device}`;
  if (mark.kind === "conflist") return `${mark.path}${mark.before === undefined ? "" : ", to what it was"}`;
  return `iptables rule ${mark.rule.table} ${mark.rule.chain} ${mark.rule.spec.join(" ")}`;
}
