import { pause } from "@cocoon-net/core";
import type { FaultProxy } from "@cocoon-net/store-testkit";
import type { Figure } from "../figure.ts";
import { type BenchServer, startServer } from "../server.ts";
import type { OutagesResult } from "../tasks/outages.ts";
import type { Run } from "./run.ts";

const backLimitMs = 500;
const blackholeLimitMs = 7_000;
/** Owned, unsure, a problem: what a node says in each outage, and once at its start. */
const linesPerOutage = 3;
/** What a busy machine may need beyond the time to settle. */
const patienceMs = 30_000;
/** An answer that was on its way when the outage began is not yet a recovery. */
const onItsWayMs = 50;

interface Outage {
  readonly what: string;
  readonly limitMs: number;
  begin(): Promise<void> | void;
  readonly lastsMs: number;
  end(): Promise<void> | void;
}

interface Past {
  readonly outage: Outage;
  readonly downAt: number;
  readonly backAt: number;
}

/** From the moment when the server is back: how soon writes and watches work again. */
export async function recoveryFigures(run: Run): Promise<Figure[]> {
  const { kind: store, sizes, processes, progress } = run;
  const { startFaultProxy } = await import("@cocoon-net/store-testkit");
  await using server = await startServer(store);
  const { host, port } = server.process;
  await using proxy = await startFaultProxy({ target: { host, port } });
  const [first, second] = processes;
  if (first === undefined || second === undefined) throw new Error("recovery needs two client processes");
  const through = (side: string) => ({ ...server.target(side), port: proxy.port });
  let workedAt = 0;
  const jobs = [
    first.begin("liveThroughOutages", { target: through("ours"), side: "ours" }, (at) => {
      workedAt = at;
    }),
    second.begin("liveThroughOutages", { target: through("raw"), side: "raw" }),
  ] as const;
  await Promise.all(jobs.map((job) => job.ready));
  for (const job of jobs) job.go();
  await pause(1_000);
  const past: Past[] = [];
  for (const outage of outagesOf(run, server, proxy)) {
    progress.part(`${store}: ${outage.what}`);
    await outage.begin();
    const downAt = Date.now();
    await pause(outage.lastsMs);
    await outage.end();
    past.push({ outage, downAt, backAt: Date.now() });
    await pause(sizes.settleMs);
    const late = performance.now() + patienceMs;
    while (workedAt < downAt + onItsWayMs && performance.now() < late) await pause(50);
  }
  for (const job of jobs) job.finish();
  const [ours, raw] = await Promise.all(jobs.map((job) => job.result));
  await Promise.all(jobs.map((job) => job.ended));
  if (ours === undefined || raw === undefined) throw new Error("a client process gave no result");
  return [
    ...past.flatMap((each) => figuresOf(store, each, ours, raw)),
    {
      ...{ store, what: "lines in a node's log over all of it", unit: "count", ours: ours.logged.length },
      aim: { most: 1 + linesPerOutage * past.length },
    },
  ];
}

function outagesOf({ sizes }: Run, { process }: BenchServer, proxy: FaultProxy): Outage[] {
  return [
    {
      ...{ what: "stopped, then continued", limitMs: backLimitMs, lastsMs: sizes.pausedMs },
      begin: () => process.pause(),
      end: () => process.resume(),
    },
    {
      ...{ what: "killed, then started", limitMs: backLimitMs, lastsMs: sizes.downMs },
      begin: () => process.stop("SIGKILL"),
      end: () => process.start(),
    },
    {
      ...{ what: "black hole, then passing", limitMs: blackholeLimitMs, lastsMs: sizes.blackholeMs },
      begin: () => proxy.blackhole(),
      end: () => proxy.pass(),
    },
  ];
}

function figuresOf(store: string, past: Past, ours: OutagesResult, raw: OutagesResult): Figure[] {
  const { outage } = past;
  const line = (what: string, name: "writes" | "watched"): Figure => ({
    ...{ store, what, unit: "ms" },
    ...{ ours: recoveredAfter(ours[name], past), raw: recoveredAfter(raw[name], past) },
    aim: { most: outage.limitMs },
  });
  return [line(`${outage.what}: first write`, "writes"), line("  first news of a watch", "watched")];
}

/** Infinite when it did not come back in the time that was waited for it. */
function recoveredAfter(moments: readonly number[], { downAt, backAt }: Past): number {
  const first = moments.find((moment) => moment >= downAt + onItsWayMs);
  return first === undefined ? Number.POSITIVE_INFINITY : Math.max(0, first - backAt);
}
