import {
  type Cloud,
  type ClusterView,
  ConflictError,
  checkSubnet,
  contains,
  counted,
  decode,
  type InstanceIdentity,
  listAll,
  movedSchema,
  NotFoundError,
  parseAddress,
  parseCidr,
  prefixes,
  type Registration,
  Registry,
  readCluster,
  type Store,
} from "@cocoon-net/core";
import { cloudBudget } from "../cloud-config.ts";
import { ownerOf, provisionPool } from "../cloud-provision.ts";
import { hasCloudResources, releaseAtCloud } from "../cloud-release.ts";
import { joinCluster } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import { detectPlatform, openCloud, openStore } from "../drivers.ts";
import { UsageError } from "../failure.ts";
import { applyFixes, fixesOf } from "../guest-agent.ts";
import { setUpThisHost } from "../host-marks.ts";
import { FileJob } from "../job-file.ts";
import {
  allAddresses,
  checkGateway,
  hostPlanOf,
  type NodeFlags,
  type NodeSettings,
  resolveSettings,
} from "../node-plan.ts";
import { runningDaemon } from "../pid-file.ts";
import { firstSize, type PoolPolicy } from "../pool-policy.ts";
import { type PoolFile, StateDirectory } from "../state-directory.ts";

/** Provisions the cloud side, then sets the host up. Repeating it finishes or confirms the same. */
export async function init(flags: NodeFlags, context: CommandContext): Promise<void> {
  const platform = flags.platform ?? (await detectPlatform(context.signal));
  const settings = resolveSettings(flags, platform);
  await using cloud = await openCloud(platform, context.drivers, { budget: cloudBudget(context.cloud) });
  const instance = await cloud.describeSelf({ signal: context.signal });
  await setUpNode(flags, settings, { manageIptables: true, provision: { cloud, instance } }, context);
}

/** The same without any cloud call, for a node whose addresses are already routed to it. */
export async function adopt(
  flags: NodeFlags & { readonly manageIptables: boolean },
  context: CommandContext,
): Promise<void> {
  const platform = flags.platform ?? (await detectPlatform(context.signal));
  await setUpNode(flags, resolveSettings(flags, platform), { manageIptables: flags.manageIptables }, context);
}

interface SetUp {
  readonly manageIptables: boolean;
  readonly provision?: { readonly cloud: Cloud; readonly instance: InstanceIdentity };
}

async function setUpNode(
  flags: NodeFlags,
  settings: NodeSettings,
  setUp: SetUp,
  context: CommandContext,
): Promise<void> {
  if (flags.subnet === undefined && flags.store === undefined) {
    throw new UsageError("--subnet is missing", {
      hint: "name the node's block, or give --store URL to get the next free one",
    });
  }
  await using store = flags.store === undefined ? undefined : await openStore(flags.store, context);
  if (flags.dryRun) return await describe(flags, settings, setUp, store, context);
  context.requireRoot();
  const daemon = await runningDaemon(flags.pidFile);
  if (daemon !== undefined) {
    throw new ConflictError(`the daemon is running (pid ${daemon}); a node is set up while it is stopped`, {
      hint: "stop it, repeat this, start it again",
    });
  }
  const state = new StateDirectory(flags.stateDir);
  await state.create();
  const registered = await state.readRegistration();
  if (!store && registered) {
    throw new ConflictError(`${state.registrationPath} says that this node belongs to a cluster`, {
      hint: "give its --store URL, or tear the node down first",
    });
  }
  if (flags.gateway !== undefined) {
    // Before anything is registered: a refusal afterwards would leave half a node behind.
    const subnet = flags.subnet ?? registered?.subnet;
    if (subnet === undefined) {
      throw new UsageError("--gateway needs --subnet: which subnet this node gets is not known before");
    }
    checkGateway(subnet, flags.gateway);
  }
  const earlier = await state.readPoolOrMoveAside((message) => context.say(message));
  if (!store && setUp.provision && earlier && earlier.subnet !== flags.subnet) {
    if (await hasCloudResources(earlier, state)) {
      throw new ConflictError(
        `this node has ${earlier.subnet} at the cloud already, and is to get ${flags.subnet}`,
        { hint: "run `cocoon-net teardown` first, which deletes its ENIs" },
      );
    }
  }
  const instance = setUp.provision?.instance;
  const registration = store && (await register(store, state, flags, settings, instance, context));
  const subnet = registration?.subnet ?? flags.subnet ?? "";
  if (setUp.provision && earlier && earlier.subnet !== subnet && (await hasCloudResources(earlier, state))) {
    // The cluster gave the node another block, so the old one was taken back: what is left of it goes.
    context.say(`releasing what the cloud still has of ${earlier.subnet}`);
    await releaseAtCloud(earlier, registered, state, context);
  }
  const gateway = checkGateway(subnet, flags.gateway);
  const base = {
    platform: settings.platform,
    nodeName: flags.nodeName,
    subnet,
    gateway,
    primaryNIC: settings.primaryNIC,
    dnsServers: settings.dnsServers,
    dropInternalAccess: settings.dropInternalAccess,
    dropCIDRs: settings.dropCIDRs,
    ...(setUp.provision && settings.poolPolicy
      ? await policyWhereAssigned(setUp.provision, settings.poolPolicy, context)
      : {}),
  };
  const pool = setUp.provision
    ? await provision(setUp.provision, state, base, earlier, flags, registration, store, context)
    : await state.writePool({
        ...keptOf(earlier, subnet),
        ...base,
        ips: allAddresses(subnet, gateway, flags.poolSize),
      });
  const host = await setUpThisHost(hostPlanOf(pool, { ...setUp, cniConflist: flags.cniConflist }), state, {
    signal: context.signal,
  });
  for (const change of host.changes) context.say(change);
  for (const warning of host.warnings) context.say(`warning: ${warning}`);
  if (setUp.provision) await applyFixes(pool, context);
  context.print(
    `${flags.nodeName} is set up: ${counted(pool.ips.length, "address", "addresses")} of ${pool.subnet}, gateway ${pool.gateway}`,
  );
}

async function register(
  store: Store,
  state: StateDirectory,
  flags: NodeFlags,
  settings: NodeSettings,
  instance: InstanceIdentity | undefined,
  context: CommandContext,
): Promise<Registration> {
  const registration = await joinCluster(store, state, {
    node: flags.nodeName,
    subnet: flags.subnet,
    platform: settings.platform,
    instanceID: instance?.instanceID ?? flags.instanceId,
    zone: instance?.zone,
    parentCIDR: flags.parentCidr,
    signal: context.signal,
    onWait: (message) => context.say(message),
  });
  context.say(`registered in ${store.label}: ${registration.subnet} (epoch ${registration.epoch})`);
  return registration;
}

async function provision(
  target: { readonly cloud: Cloud; readonly instance: InstanceIdentity },
  state: StateDirectory,
  base: Omit<PoolFile, "ips" | "updatedAt">,
  earlier: PoolFile | undefined,
  flags: NodeFlags,
  registration: Registration | undefined,
  store: Store | undefined,
  context: CommandContext,
): Promise<PoolFile> {
  // The seed goes to disk before the first cloud call, so that teardown knows this node after a crash.
  await state.writePool({
    ...keptOf(earlier, base.subnet),
    ...base,
    ips: earlier?.subnet === base.subnet ? earlier.ips : [],
  });
  const job = await FileJob.open(state.jobPath, "init");
  const { pool, network } = await provisionPool(
    target.cloud,
    {
      instance: target.instance,
      owner: ownerOf(registration),
      base,
      poolSize: base.poolPolicy ? firstSize(base.poolPolicy) : flags.poolSize,
      movedAway: store ? await movedAwayOf(store, base.subnet, flags.nodeName, context) : [],
    },
    state,
    job,
    context,
  );
  const { zone, region, network: vpc } = target.instance;
  await registration?.update({
    // A controller that moves an address here has to know where this instance is.
    ...{ zone, region, network: vpc },
    eniIDs: network.eniIDs,
    ...(network.subnetID === undefined ? {} : { subnetID: network.subnetID }),
    pool: { size: pool.ips.length, leased: 0, free: pool.ips.length },
  });
  await job.finish();
  return pool;
}

/** What an earlier owner of the block has left with other nodes: they keep serving it. */
async function movedAwayOf(
  store: Store,
  subnet: string,
  node: string,
  { signal }: CommandContext,
): Promise<string[]> {
  const { entries } = await listAll(store, prefixes.moved, { signal });
  const block = parseCidr(subnet);
  return entries
    .filter((entry) => decode(movedSchema, entry).node !== node)
    .map(({ key }) => key.slice(prefixes.moved.length))
    .filter((address) => contains(block, { base: parseAddress(address), prefix: 32 }));
}

/** Where the cloud gives a node its whole block, there is no demand to follow. */
async function policyWhereAssigned(
  { cloud, instance }: NonNullable<SetUp["provision"]>,
  poolPolicy: PoolPolicy,
  context: CommandContext,
): Promise<{ readonly poolPolicy?: PoolPolicy }> {
  const { assigns } = await cloud.describeLimits(instance, { signal: context.signal });
  if (assigns === "addresses") return { poolPolicy };
  context.say(`${cloud.platform} gives a node its whole block: the pool's limits are not needed`);
  return {};
}

/** Cloud resources on record stay on record while the node keeps its subnet: teardown needs them. */
function keptOf(earlier: PoolFile | undefined, subnet: string): Partial<PoolFile> {
  if (earlier?.subnet !== subnet) return {};
  return Object.fromEntries(
    (["eniIDs", "subnetID", "aliasRangeName", "secondaryNICs"] as const)
      .map((name) => [name, earlier[name]] as const)
      .filter(([, value]) => value !== undefined),
  );
}

async function describe(
  flags: NodeFlags,
  settings: NodeSettings,
  setUp: SetUp,
  store: Store | undefined,
  context: CommandContext,
): Promise<void> {
  const state = new StateDirectory(flags.stateDir);
  const registered = store && (await state.readRegistration());
  const kept = registered?.lostAt === undefined ? registered?.subnet : undefined;
  const wanted = flags.subnet ?? kept;
  const subnet = store ? await subnetToGet(store, wanted, flags, context) : wanted;
  const gateway =
    subnet === undefined ? (flags.gateway ?? "first host address") : checkGateway(subnet, flags.gateway);
  const fixes = setUp.provision && subnet !== undefined ? fixesOf({ ...settings, subnet }) : undefined;
  const files = [
    state.poolPath,
    ...(store ? [state.registrationPath] : []),
    ...(fixes?.files.map(({ path }) => path) ?? []),
  ];
  const lines = [
    ["platform", settings.platform],
    ["nodeName", flags.nodeName],
    ["subnet", subnet ?? `next free one of ${flags.parentCidr}`],
    ["gateway", gateway],
    ["poolSize", String(settings.poolPolicy ? firstSize(settings.poolPolicy) : flags.poolSize)],
    ["primaryNIC", settings.primaryNIC],
    ["dns", settings.dnsServers.join(",")],
    ["dropInternalAccess", String(settings.dropInternalAccess)],
    ["dropCIDRs", settings.dropCIDRs.join(",")],
    ["stateDir", flags.stateDir],
    ...(store ? [["store", store.label]] : []),
    ["would write", files.join(", ")],
    ...(setUp.provision
      ? [["would provision", `${settings.platform} instance ${setUp.provision.instance.instanceID}`]]
      : []),
    [
      "would leave alone",
      setUp.manageIptables ? "foreign iptables rules" : "iptables, everything at the cloud",
    ],
  ];
  for (const [name, value] of lines) context.print(`${name}: ${value}`);
}

/** What `register` would give now, without taking it. */
async function subnetToGet(
  store: Store,
  wanted: string | undefined,
  flags: NodeFlags,
  { signal }: CommandContext,
): Promise<string | undefined> {
  let cluster: ClusterView;
  try {
    cluster = await readCluster(store, { signal });
  } catch (error) {
    if (error instanceof NotFoundError && flags.parentCidr !== undefined) return wanted;
    throw error;
  }
  if (wanted === undefined) return await new Registry(store).nextFree({ signal });
  const { config, parent, reserved } = cluster;
  checkSubnet(parseCidr(wanted), { parent, reserved, nodePrefix: config.nodePrefix });
  return wanted;
}
