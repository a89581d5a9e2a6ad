import { ClientProcess, runTogether } from "../client-process.ts";
import type { Figure } from "../figure.ts";
import { type BenchServer, startServer } from "../server.ts";
import { shareOf } from "../synthetic-cluster.ts";
import type { Side, Target } from "../target.ts";
import type { Run } from "./run.ts";

const mirrorTimes = 1.5;
const loadTimes = 2;
const residentLimit = 500e6;

/** Connections and writing nodes of each client process. */
const leaseHandles = 4;
const inFlight = 8;

/** Each side keeps what was best of so many loads. */
const loads = 2;

interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

interface Writing extends Cost {
  readonly failures: number;
}

interface Load extends Cost {
  readonly leases: number;
  readonly residentBytes: number;
}

/** Every lease of the cluster is mirrored for the first time, loaded by one controller, and renewed. */
export async function leaseFigures(run: Run): Promise<Figure[]> {
  const { kind: store, sizes } = run;
  const total = sizes.nodes * sizes.leasesPerNode;
  // Both sides have a server, and take turns: what else the machine does meets both alike.
  await using rawServer = await startServer(store);
  await using ourServer = await startServer(store);
  const raw = new LeaseCourse(run, "raw", rawServer, total);
  const ours = new LeaseCourse(run, "ours", ourServer, total);
  const mirror = { raw: await raw.write(0), ours: await ours.write(0) };
  const loaded = { raw: await raw.load(), ours: await ours.load() };
  for (let again = 1; again < loads; again++) {
    loaded.raw = faster(loaded.raw, await raw.load());
    loaded.ours = faster(loaded.ours, await ours.load());
  }
  const renewal = { raw: await raw.write(1), ours: await ours.write(1) };
  const line = (
    what: string,
    cost: { readonly ours: Cost; readonly raw: Cost },
    mostTimes: number,
  ): Figure => ({
    ...{ store, what, unit: "ms", ours: cost.ours.ms, raw: cost.raw.ms, aim: { mostTimes } },
    cpu: { ours: cost.ours.cpuMs, raw: cost.raw.cpuMs },
  });
  return [
    line(`first mirror of ${total.toLocaleString("en")} leases`, mirror, mirrorTimes),
    line("  fleet-wide renewal", renewal, mirrorTimes),
    line("  a controller loads them", loaded, loadTimes),
    {
      ...{ store, what: "  its resident size", unit: "bytes" },
      ...{ ours: loaded.ours.residentBytes, raw: loaded.raw.residentBytes, aim: { most: residentLimit } },
    },
    {
      ...{ store, what: "  writes that had to be tried again", unit: "count" },
      ...{ ours: mirror.ours.failures + renewal.ours.failures },
      ...{ raw: mirror.raw.failures + renewal.raw.failures, aim: { most: 0 } },
    },
    {
      ...{ store, what: "  leases that it misses", unit: "count" },
      ...{ ours: total - loaded.ours.leases, raw: total - loaded.raw.leases, aim: { most: 0 } },
    },
  ];
}

/** One side's leases, on a server of their own. */
class LeaseCourse {
  readonly #run: Run;
  readonly #side: Side;
  readonly #server: BenchServer;
  readonly #target: Target;
  readonly #total: number;

  constructor(run: Run, side: Side, server: BenchServer, total: number) {
    this.#run = run;
    this.#side = side;
    this.#server = server;
    this.#target = server.target(side);
    this.#total = total;
  }

  async write(generation: number): Promise<Writing> {
    const { sizes, processes, progress } = this.#run;
    this.#tell(`${generation === 0 ? "mirror" : "renew"} ${this.#total.toLocaleString("en")} leases`);
    const { ms, cpuMs, results } = await runTogether(
      processes,
      this.#server,
      "writeLeases",
      (index) => ({
        ...{ target: this.#target, side: this.#side, generation, inFlight, handles: leaseHandles },
        leasesPerNode: sizes.leasesPerNode,
        nodes: shareOf(sizes.nodes, processes.length, index),
      }),
      (done) => progress.done(done, this.#total),
    );
    return { ms, cpuMs, failures: results.reduce((sum, result) => sum + result.failures, 0) };
  }

  /** In a process of its own, whose resident size is that of the load alone. */
  async load(): Promise<Load> {
    this.#tell("load them");
    await using controller = new ClientProcess();
    const params = { target: this.#target, side: this.#side };
    const { ms, cpuMs, results } = await runTogether([controller], this.#server, "loadLeases", () => params);
    const [{ leases, residentBytes } = { leases: 0, residentBytes: 0 }] = results;
    return { ms, cpuMs, leases, residentBytes };
  }

  #tell(what: string): void {
    const who = this.#side === "ours" ? "cocoon-net" : "raw client";
    this.#run.progress.part(`${this.#run.kind}: ${what}, ${who}`);
  }
}

function faster(one: Load, other: Load): Load {
  return other.ms < one.ms ? other : one;
}
