import { pause } from "@cocoon-net/core";
import { ClientProcess, runTogether } from "../client-process.ts";
import type { Figure } from "../figure.ts";
import { type BenchServer, difference, startServer } from "../server.ts";
import { shareOf } from "../synthetic-cluster.ts";
import type { AgentsResult } from "../tasks/agents.ts";
import type { Run } from "./run.ts";

const agentProcesses = 2;
const inFlight = 8;
/** Per agent and second: keep-alives come when they come. One renewal's worth of somebody else's leases is 20,000. */
const noiseBytes = 50;

interface Renewals {
  readonly from: number;
  readonly to: number;
  readonly leases: number;
  readonly failures: number;
  readonly cpuMs: number;
}

/**
 * Idle agents beside nodes that renew their leases without a pause. What the agents receive is set against an
 * equally long time in which nobody writes: keep-alives of the connections come in both.
 */
export async function watchFigures(run: Run): Promise<Figure[]> {
  const { kind: store, sizes, progress } = run;
  await using server = await startServer(store);
  progress.part(`${store}: leases are renewed, nobody watches`);
  const alone = await renew(run, server);
  progress.part(`${store}: ${sizes.agents} idle agents connect`);
  await using first = new ClientProcess();
  await using second = new ClientProcess();
  const watching = [first, second];
  const jobs = watching.map((process, index) =>
    process.begin("followOwnKeys", {
      target: server.target("ours"),
      nodes: shareOf(sizes.agents, agentProcesses, index).map((node) => sizes.nodes + node),
    }),
  );
  await Promise.all(jobs.map((job) => job.ready));
  for (const job of jobs) job.go();
  progress.part(`${store}: idle agents, nobody writes`);
  const quietFrom = Date.now();
  await pause(sizes.watchMs);
  const quietTo = Date.now();
  progress.part(`${store}: idle agents beside renewals`);
  const beside = await renew(run, server);
  for (const job of jobs) job.finish();
  const results = await Promise.all(jobs.map((job) => job.result));
  const quiet = received(results, quietFrom, quietTo);
  const busy = received(results, beside.from, beside.to);
  const busySeconds = (beside.to - beside.from) / 1_000;
  const quietSeconds = (quietTo - quietFrom) / 1_000;
  const perAgent = (bytes: number, seconds: number) => bytes / sizes.agents / seconds;
  const extra = perAgent(busy.bytes, busySeconds) - perAgent(quiet.bytes, quietSeconds);
  const awake = results.reduce((sum, result) => sum + result.awake, 0);
  const figure = { store };
  return [
    {
      ...{
        ...figure,
        what: `${sizes.agents} idle agents: batches received`,
        unit: "count",
        ours: busy.batches,
      },
      aim: { most: 0 },
    },
    {
      ...{ ...figure, what: "  bytes each per second, beyond a quiet time's", unit: "bytes" },
      ...{ ours: Math.max(0, extra), aim: { most: noiseBytes } },
    },
    {
      ...{ ...figure, what: "  bytes each per second in a quiet time", unit: "bytes" },
      ours: perAgent(quiet.bytes, quietSeconds),
    },
    {
      ...{ ...figure, what: "  agents deaf to a change of their own key", unit: "count" },
      ...{ ours: sizes.agents - awake, aim: { most: 0 } },
    },
    {
      ...{ ...figure, what: "  leases renewed per second (raw: nobody watches)", unit: "perSecond" },
      ...{ ours: ratePerSecond(beside), raw: ratePerSecond(alone) },
    },
    {
      ...{ ...figure, what: "  server CPU per 1,000 renewals (likewise)", unit: "ms" },
      ...{ ours: cpuPerThousand(beside), raw: cpuPerThousand(alone) },
    },
    {
      ...{ ...figure, what: "  writes that had to be tried again", unit: "count", ours: beside.failures },
      ...{ raw: alone.failures, aim: { most: 0 } },
    },
  ];
}

async function renew({ sizes, processes }: Run, server: BenchServer): Promise<Renewals> {
  const before = await server.usage();
  const from = Date.now();
  const { results } = await runTogether(processes, server, "writeLeases", (index) => ({
    ...{ target: server.target("ours"), side: "ours" as const, generation: 0, inFlight, handles: 4 },
    leasesPerNode: sizes.leasesPerNode,
    nodes: shareOf(Math.min(sizes.nodes, 500), processes.length, index),
    forMs: sizes.watchMs,
  }));
  const { cpuMs } = difference(before, await server.usage());
  const sum = (name: "leases" | "failures") => results.reduce((total, each) => total + each[name], 0);
  return { from, to: Date.now(), leases: sum("leases"), failures: sum("failures"), cpuMs };
}

function received(
  results: readonly AgentsResult[],
  from: number,
  to: number,
): { bytes: number; batches: number } {
  const total = { bytes: 0, batches: 0 };
  for (const { samples } of results) {
    const first = samples.findLast((sample) => sample.at <= from) ?? samples[0];
    const last = samples.find((sample) => sample.at >= to) ?? samples.at(-1);
    if (first === undefined || last === undefined) continue;
    total.bytes += last.bytes - first.bytes;
    total.batches += last.batches - first.batches;
  }
  return total;
}

function ratePerSecond({ leases, from, to }: Renewals): number {
  return (leases * 1_000) / (to - from);
}

function cpuPerThousand({ leases, cpuMs }: Renewals): number {
  return leases === 0 ? 0 : (cpuMs * 1_000) / leases;
}
