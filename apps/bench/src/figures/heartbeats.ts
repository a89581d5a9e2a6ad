import { pause } from "@cocoon-net/core";
import type { Figure } from "../figure.ts";
import { difference, startServer, type Usage } from "../server.ts";
import { shareOf } from "../synthetic-cluster.ts";
import type { Side } from "../target.ts";
import { handles, type Run } from "./run.ts";

const shareLimit = 0.1;

interface Beats extends Usage {
  readonly seconds: number;
  readonly lost: number;
}

/** What it costs the server that every node is alive. */
export async function heartbeatFigures(run: Run): Promise<Figure[]> {
  const { kind: store, sizes } = run;
  const raw = await beat(run, "raw");
  const ours = await beat(run, "ours");
  const cpu = ({ cpuMs, seconds }: Beats) => cpuMs / 1_000 / seconds;
  const ttl = `TTL ${sizes.sessionTtlMs / 1_000} s`;
  return [
    {
      ...{ store, what: `${sizes.sessions} heartbeats, ${ttl}: share of a core`, unit: "share" },
      ...{ ours: cpu(ours), raw: cpu(raw), aim: { most: shareLimit } },
    },
    {
      ...{ store, what: "  written to disk per second", unit: "bytes" },
      ...{ ours: ours.diskBytes / ours.seconds, raw: raw.diskBytes / raw.seconds },
      ...(store === "etcd" ? { aim: { most: 0 } } : {}),
    },
    {
      ...{ store, what: store === "etcd" ? "  revisions" : "  commands per second" },
      ...(store === "etcd"
        ? { unit: "count", ours: ours.operations, raw: raw.operations, aim: { most: 0 } }
        : { unit: "perSecond", ours: ours.operations / ours.seconds, raw: raw.operations / raw.seconds }),
    },
    { store, what: "  sessions lost", unit: "count", ours: ours.lost, aim: { most: 0 } },
  ];
}

async function beat({ kind, sizes, processes, progress }: Run, side: Side): Promise<Beats> {
  await using server = await startServer(kind);
  progress.part(`${kind}: ${sizes.sessions} heartbeats, ${side === "ours" ? "cocoon-net" : "raw client"}`);
  const opened = processes.map(() => 0);
  const jobs = processes.map((process, index) =>
    process.begin(
      "keepSessions",
      {
        ...{ target: server.target(side), side, handles, ttlMs: sizes.sessionTtlMs },
        nodes: shareOf(sizes.sessions, processes.length, index),
      },
      (done) => {
        opened[index] = done;
        progress.done(
          opened.reduce((sum, each) => sum + each, 0),
          sizes.sessions,
        );
      },
    ),
  );
  await Promise.all(jobs.map((job) => job.ready));
  for (const job of jobs) job.go();
  // etcd writes its backend to the disk a moment after the last change.
  await pause(Math.min(2_000, sizes.heartbeatMs));
  const [before, startedAt] = [await server.usage(), performance.now()];
  await pause(sizes.heartbeatMs);
  const used = difference(before, await server.usage());
  const seconds = (performance.now() - startedAt) / 1_000;
  for (const job of jobs) job.finish();
  const results = await Promise.all(jobs.map((job) => job.result));
  await Promise.all(jobs.map((job) => job.ended));
  return { ...used, seconds, lost: results.reduce((sum, { lost }) => sum + lost, 0) };
}
