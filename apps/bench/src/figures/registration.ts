import { encode, initCluster, keys, parseCidr, sizeOf } from "@cocoon-net/core";
import { runTogether } from "../client-process.ts";
import type { Calls } from "../counting-store.ts";
import type { Figure } from "../figure.ts";
import { openRawClient } from "../raw/client.ts";
import { startServer } from "../server.ts";
import { nodeName, shareOf, subnetOf } from "../synthetic-cluster.ts";
import { openStore, type Side, type Target } from "../target.ts";
import { handles, type Run } from "./run.ts";

const limitMs = { etcd: 1_000, redis: 500 };
const crowdedLimitMs = 3_000;

interface Storm {
  readonly ms: number;
  readonly cpuMs: number;
  readonly serverCpuMs: number;
  readonly duplicates: number;
  readonly failures: readonly string[];
  readonly calls: Calls;
}

/** All nodes register at the same moment, with every slot free and with most of them taken. */
export async function registrationFigures(run: Run): Promise<Figure[]> {
  const { kind, sizes, progress } = run;
  const slots = sizeOf(parseCidr(sizes.parentCIDR).prefix) / sizeOf(24);
  const figures: Figure[] = [];
  for (const share of [0, sizes.takenShare]) {
    const taken = Math.floor(slots * share);
    const title =
      share === 0
        ? `${sizes.registrations} nodes register at once`
        : `the same, ${Math.round(share * 100)} % of slots taken`;
    progress.part(`${kind}: ${title}`);
    const raw = await storm(run, "raw", slots, taken);
    const ours = await storm(run, "ours", slots, taken);
    const [failure] = [...ours.failures, ...raw.failures];
    if (failure !== undefined) progress.part(`  a node gave up: ${failure}`);
    const perNode = (count: number) => count / sizes.registrations;
    figures.push(
      {
        ...{ store: kind, what: title, unit: "ms", ours: ours.ms, raw: raw.ms },
        cpu: { ours: ours.cpuMs, raw: raw.cpuMs },
        aim: { most: share === 0 ? limitMs[kind] : crowdedLimitMs },
      },
      {
        ...{ store: kind, what: "  server CPU for all of them", unit: "ms" },
        ...{ ours: ours.serverCpuMs, raw: raw.serverCpuMs },
      },
      {
        ...{ store: kind, what: "  writing transactions per node", unit: "count" },
        ...{ ours: perNode(ours.calls.writes), raw: perNode(raw.calls.writes), aim: { most: 3 } },
      },
      {
        ...{ store: kind, what: "  reads per node", unit: "count", ours: perNode(ours.calls.reads) },
        raw: perNode(raw.calls.reads),
      },
      {
        ...{ store: kind, what: "  duplicate subnets", unit: "count" },
        ...{ ours: ours.duplicates, raw: raw.duplicates, aim: { most: 0 } },
      },
      {
        ...{ store: kind, what: "  nodes that gave up", unit: "count" },
        ...{ ours: ours.failures.length, raw: raw.failures.length, aim: { most: 0 } },
      },
    );
  }
  return figures;
}

async function storm(
  { kind, sizes, processes }: Run,
  side: Side,
  slots: number,
  taken: number,
): Promise<Storm> {
  await using server = await startServer(kind);
  const target = server.target(side);
  const warmUpTarget = server.target("warm-up");
  if (side === "ours") {
    await prepare(warmUpTarget, sizes.parentCIDR, 0);
    await prepare(target, sizes.parentCIDR, taken);
  } else await prepareRaw(target, taken);
  const { ms, cpuMs, serverCpuMs, results } = await runTogether(
    processes,
    server,
    "registerNodes",
    (index) => ({
      ...{ target, warmUpTarget, warmUps: sizes.warmUps, side, slots, handles },
      nodes: shareOf(sizes.registrations, processes.length, index).map(nodeName),
    }),
  );
  const subnets = results.flatMap((result) => result.subnets);
  const sum = (name: keyof Calls) => results.reduce((total, { calls }) => total + calls[name], 0);
  return {
    ms,
    cpuMs,
    serverCpuMs,
    failures: results.flatMap((result) => result.failures),
    duplicates: subnets.length - new Set(subnets).size,
    calls: { reads: sum("reads"), writes: sum("writes") },
  };
}

/** The lowest slots are taken, as in a cluster that grew by one node after another. */
async function prepare(target: Target, parentCIDR: string, taken: number): Promise<void> {
  await using store = await openStore(target);
  await initCluster(store, { parentCIDR, platform: "none" });
  const batch = store.capabilities.maxOperations;
  for (let start = 0; start < taken; start += batch) {
    const slots = Array.from({ length: Math.min(batch, taken - start) }, (_, index) => start + index);
    await store.txn({
      then: slots.map((slot) => ({
        put: keys.slot(subnetOf(slot)),
        value: encode({ node: `older-${slot}`, uid: `i-older-${slot}` }),
      })),
    });
  }
}

async function prepareRaw(target: Target, taken: number): Promise<void> {
  await using client = await openRawClient(target);
  await client.occupySlots(taken);
}
