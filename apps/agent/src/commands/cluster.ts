import {
  decode,
  type Entry,
  eventSchema,
  initCluster,
  leaseSchema,
  listAll,
  nodeSchema,
  parseAddress,
  parseCidr,
  prefixes,
  quarantineSchema,
  readCluster,
  type Store,
  slotSchema,
} from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { openStore } from "../drivers.ts";
import { formatDuration } from "../duration.ts";
import { type Column, render } from "../output.ts";
import type { OutputFormat } from "../output-format.ts";

export interface ClusterFlags {
  readonly store: string;
  readonly output: OutputFormat;
}

export interface ClusterInitFlags {
  readonly store: string;
  readonly parentCidr: string;
  readonly platform: string;
  // What is not given is the default of a new cluster, and anything in one that exists.
  readonly nodePrefix?: number;
  readonly reserve?: readonly string[];
  /** Milliseconds, as the other two. */
  readonly leaseTime?: number;
  readonly quarantine?: number;
  readonly reclaimAfter?: number;
}

export async function clusterInit(flags: ClusterInitFlags, context: CommandContext): Promise<void> {
  await using store = await openStore(flags.store, context);
  const { nodePrefix, reserve, leaseTime, quarantine, reclaimAfter } = flags;
  const { config } = await initCluster(
    store,
    {
      parentCIDR: flags.parentCidr,
      platform: flags.platform,
      ...(nodePrefix === undefined ? {} : { nodePrefix }),
      ...(reserve === undefined ? {} : { reserved: reserve }),
      ...(leaseTime === undefined ? {} : { leaseMs: leaseTime }),
      ...(quarantine === undefined ? {} : { quarantineMs: quarantine }),
      ...(reclaimAfter === undefined ? {} : { reclaimAfterMs: reclaimAfter }),
    },
    { signal: context.signal },
  );
  context.print(
    `cluster in ${store.label}: ${config.parentCIDR} in /${config.nodePrefix} subnets on ${config.platform}`,
  );
}

export async function clusterNodes(flags: ClusterFlags, context: CommandContext): Promise<void> {
  await using store = await openCluster(flags.store, context);
  const [nodes, alive, subnets] = await Promise.all(
    [prefixes.nodes, prefixes.alive, prefixes.subnets].map((prefix) => list(store, prefix, context)),
  );
  const living = new Set(alive?.map((entry) => entry.key.slice(prefixes.alive.length)));
  const owned = new Map(
    subnets?.map((entry) => [entry.key.slice(prefixes.subnets.length), entry.modRevision]),
  );
  const rows = (nodes ?? []).map((entry) => {
    const node = entry.key.slice(prefixes.nodes.length);
    const record = decode(nodeSchema, entry);
    return { node, ...record, alive: living.has(node), epoch: owned.get(node) ?? null };
  });
  type Row = (typeof rows)[number];
  const columns: Column<Row>[] = [
    { title: "NODE", value: (row) => row.node },
    {
      title: "STATUS",
      value: (row) => (row.status === "ready" && !row.alive ? "ready (silent)" : row.status),
    },
    { title: "SUBNET", value: (row) => row.subnet },
    { title: "LEASED", value: (row) => (row.pool ? `${row.pool.leased}/${row.pool.size}` : "-") },
    { title: "ZONE", value: (row) => row.zone ?? "-" },
    { title: "UID", value: (row) => row.uid },
    { title: "VERSION", value: (row) => row.agentVersion },
    { title: "UPDATED", value: (row) => ago(row.lastSeen) },
  ];
  context.print(render(rows, columns, flags.output));
}

export async function clusterSubnets(flags: ClusterFlags, context: CommandContext): Promise<void> {
  await using store = await openCluster(flags.store, context);
  const { config } = await readCluster(store, { signal: context.signal });
  const [slots, quarantine] = await Promise.all(
    [prefixes.slots, prefixes.quarantine].map((prefix) => list(store, prefix, context)),
  );
  const ends = new Map(
    quarantine?.map((entry) => [
      entry.key.slice(prefixes.quarantine.length),
      decode(quarantineSchema, entry),
    ]),
  );
  const rows = (slots ?? [])
    .map((entry) => {
      const slot = entry.key.slice(prefixes.slots.length);
      const { node, uid } = decode(slotSchema, entry);
      const held = ends.get(slot);
      return {
        slot,
        state: node === "" ? "quarantine" : "owned",
        node: node || (held?.node ?? ""),
        uid,
        until: held?.until ?? null,
      };
    })
    .sort((a, b) => parseCidr(a.slot).base - parseCidr(b.slot).base);
  type Row = (typeof rows)[number];
  const columns: Column<Row>[] = [
    { title: "SLOT", value: (row) => row.slot },
    { title: "STATE", value: (row) => row.state },
    { title: "NODE", value: (row) => row.node },
    { title: "UID", value: (row) => row.uid },
    { title: "FREE IN", value: (row) => (row.until === null ? "-" : until(row.until)) },
  ];
  context.print(render(rows, columns, flags.output));
  if (flags.output !== "table") return;
  const total = 2 ** (config.nodePrefix - parseCidr(config.parentCIDR).prefix);
  context.print(`${rows.length} of ${total} /${config.nodePrefix} of ${config.parentCIDR} in use`);
}

export async function clusterLeases(
  flags: ClusterFlags & { readonly node?: string | undefined },
  context: CommandContext,
): Promise<void> {
  await using store = await openCluster(flags.store, context);
  const rows = (await list(store, prefixes.pool, context))
    .map((entry) => ({ address: entry.key.slice(prefixes.pool.length), ...decode(leaseSchema, entry) }))
    .filter((row) => flags.node === undefined || row.node === flags.node)
    .sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
  type Row = (typeof rows)[number];
  const columns: Column<Row>[] = [
    { title: "ADDRESS", value: (row) => row.address },
    { title: "NODE", value: (row) => row.node },
    { title: "MAC", value: (row) => row.mac },
    { title: "HOST NAME", value: (row) => row.hostname ?? "-" },
    { title: "VM", value: (row) => row.vmID ?? "-" },
    { title: "ENDS IN", value: (row) => until(row.expiry) },
  ];
  context.print(render(rows, columns, flags.output));
}

export async function clusterEvents(flags: ClusterFlags, context: CommandContext): Promise<void> {
  await using store = await openCluster(flags.store, context);
  const rows = (await list(store, prefixes.events, context)).map((entry) => decode(eventSchema, entry));
  rows.sort((a, b) => a.time.localeCompare(b.time));
  type Row = (typeof rows)[number];
  const columns: Column<Row>[] = [
    { title: "TIME", value: (row) => row.time },
    { title: "EVENT", value: (row) => row.type },
    { title: "NODE", value: (row) => row.node ?? "-" },
    { title: "SUBNET", value: (row) => row.subnet ?? "-" },
    { title: "WHAT", value: (row) => row.message },
  ];
  context.print(render(rows, columns, flags.output));
}

async function list(store: Store, prefix: string, context: CommandContext): Promise<readonly Entry[]> {
  return (await listAll(store, prefix, { signal: context.signal })).entries;
}

/** Opens a store and makes sure that there is a cluster in it: an empty table must never mean a wrong prefix. */
async function openCluster(url: string, context: CommandContext): Promise<Store> {
  const store = await openStore(url, context);
  try {
    await readCluster(store, { signal: context.signal });
    return store;
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

function ago(time: string): string {
  return `${formatDuration(Date.now() - Date.parse(time))} ago`;
}

function until(time: string): string {
  const ms = Date.parse(time) - Date.now();
  return ms > 0 ? formatDuration(ms) : "ended";
}
