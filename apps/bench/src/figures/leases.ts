import { ClientProcess, runTogether } from "../client-process.ts";
import type { Figure } from "../figure.ts";
import { startServer } from "../server.ts";
import { shareOf } from "../synthetic-cluster.ts";
import type { Side } from "../target.ts";
import type { Run } from "./run.ts";

const mirrorTimes = 1.5;
const loadTimes = 2;
const residentLimit = 500e6;

/** Connections and writing nodes of each client process. */
const leaseHandles = 4;
const inFlight = 8;

interface Course {
  readonly mirrorMs: number;
  readonly loadMs: number;
  readonly residentBytes: number;
  readonly renewMs: number;
  /** Leases that the load found. */
  readonly leases: number;
}

/** Every lease of the cluster is mirrored for the first time, loaded by one controller, and renewed. */
export async function leaseFigures(run: Run): Promise<Figure[]> {
  const { kind: store, sizes } = run;
  const total = sizes.nodes * sizes.leasesPerNode;
  const raw = await course(run, "raw", total);
  const ours = await course(run, "ours", total);
  const leases = `${total.toLocaleString("en")} leases`;
  return [
    {
      ...{ store, what: `first mirror of ${leases}`, unit: "ms", ours: ours.mirrorMs, raw: raw.mirrorMs },
      aim: { mostTimes: mirrorTimes },
    },
    {
      ...{ store, what: "  a controller loads them", unit: "ms", ours: ours.loadMs, raw: raw.loadMs },
      aim: { mostTimes: loadTimes },
    },
    {
      ...{ store, what: "  its resident size", unit: "bytes" },
      ...{ ours: ours.residentBytes, raw: raw.residentBytes, aim: { most: residentLimit } },
    },
    {
      ...{ store, what: "  leases that it misses", unit: "count" },
      ...{ ours: total - ours.leases, raw: total - raw.leases, aim: { most: 0 } },
    },
    {
      ...{ store, what: "  fleet-wide renewal", unit: "ms", ours: ours.renewMs, raw: raw.renewMs },
      aim: { mostTimes: mirrorTimes },
    },
  ];
}

async function course({ kind, sizes, processes, progress }: Run, side: Side, total: number): Promise<Course> {
  await using server = await startServer(kind);
  const target = server.target(side);
  const write = async (what: string, generation: number): Promise<number> => {
    progress.part(`${kind}: ${what} ${total.toLocaleString("en")} leases, ${name(side)}`);
    const { ms } = await runTogether(
      processes,
      "writeLeases",
      (index) => ({
        ...{ target, side, generation, inFlight, handles: leaseHandles },
        leasesPerNode: sizes.leasesPerNode,
        nodes: shareOf(sizes.nodes, processes.length, index),
      }),
      (done) => progress.done(done, total),
    );
    return ms;
  };
  const mirrorMs = await write("mirror", 0);
  progress.part(`${kind}: load them, ${name(side)}`);
  // A process of its own, whose resident size is that of the load alone.
  await using controller = new ClientProcess();
  const loaded = await runTogether([controller], "loadLeases", () => ({ target, side }));
  const [{ leases, residentBytes } = { leases: 0, residentBytes: 0 }] = loaded.results;
  const renewMs = await write("renew", 1);
  return { mirrorMs, loadMs: loaded.ms, residentBytes, renewMs, leases };
}

function name(side: Side): string {
  return side === "ours" ? "cocoon-net" : "raw client";
}
