import { DisposeStack, describeError, pause } from "@cocoon-net/core";
import { ClientProcess, type ParamsOf, runTogether } from "../client-process.ts";
import type { Figure } from "../figure.ts";
import { type Progress, silent } from "../progress.ts";
import { type BenchServer, startServer } from "../server.ts";
import { nodeName, shareOf } from "../synthetic-cluster.ts";
import { openStore, type StoreKind } from "../target.ts";
import { burstMargin, seedConfig, seedNodes, simulatedCloud } from "./cluster.ts";
import { ControllerProcess } from "./controller-process.ts";
import { type ReclaimLeast, reclaimLeast } from "./least-reclaim.ts";
import { Observer } from "./observer.ts";
import { type ControllerSizes, fullSizes } from "./sizes.ts";

export interface ControllerBenchOptions {
  readonly sizes?: ControllerSizes;
  readonly stores?: readonly StoreKind[];
  readonly progress?: Progress;
}

export interface ControllerBenchResult {
  readonly figures: readonly Figure[];
  /** What was played and how the least was reckoned. */
  readonly notes: readonly string[];
  readonly failures: readonly string[];
}

/** What a controller costs, and how fast it takes lost nodes back. */
export async function controllerBench(options: ControllerBenchOptions = {}): Promise<ControllerBenchResult> {
  const { sizes = fullSizes, stores = ["etcd", "redis"], progress = silent } = options;
  const figures: Figure[] = [];
  const failures: string[] = [];
  for (const kind of stores) {
    try {
      await using run = await Run.start(kind, sizes, progress);
      for (const part of [run.loading, run.idling, run.takeover, ...run.losses])
        figures.push(...(await part()));
    } catch (error) {
      failures.push(`${kind}: ${describeError(error)}`);
      progress.part(failures.at(-1) ?? "");
    }
  }
  return { figures, notes: notesOn(sizes), failures };
}

const loadedAim = 500e6;
const idleAim = 0.1;
const ratioAim = 1.15;
const marginMs = 2_000;

/** One store with its cluster and its controllers. The parts are to be called in order. */
class Run implements AsyncDisposable {
  readonly #kind: StoreKind;
  readonly #sizes: ControllerSizes;
  readonly #progress: Progress;
  readonly #stack: DisposeStack;
  readonly #observer: Observer;
  readonly #stopInstance: (node: string) => void;
  readonly #newController: (id: string) => Promise<ControllerProcess>;
  readonly #groups: readonly LostGroup[];
  #leader: ControllerProcess | undefined;

  private constructor(
    fields: { kind: StoreKind; sizes: ControllerSizes; progress: Progress },
    stack: DisposeStack,
    observer: Observer,
    groups: readonly LostGroup[],
    stopInstance: (node: string) => void,
    newController: (id: string) => Promise<ControllerProcess>,
  ) {
    this.#kind = fields.kind;
    this.#sizes = fields.sizes;
    this.#progress = fields.progress;
    this.#stack = stack;
    this.#observer = observer;
    this.#groups = groups;
    this.#stopInstance = stopInstance;
    this.#newController = async (id) => stack.use(await newController(id));
  }

  static async start(kind: StoreKind, sizes: ControllerSizes, progress: Progress): Promise<Run> {
    await using stack = new DisposeStack();
    const server = stack.use(await startServer(kind));
    const target = server.target("ours");
    const store = stack.use(await openStore(target));
    const simulator = stack.use(simulatedCloud(sizes));
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    const lost = sizes.losses.reduce((sum, count) => sum + count, 0);
    const clusterUID = await seedConfig(store, sizes);
    await seedLeases(kind, server, sizes, progress);
    progress.part(`${kind}: ${sizes.nodes} nodes`);
    await seedNodes(store, simulator, clusterUID, sizes, lost);
    const beginSessions = async (nodes: readonly number[]) => {
      const process = stack.use(new ClientProcess());
      const { sessionTtlMs: ttlMs } = sizes;
      const job = process.begin("keepSessions", { target, side: "ours", nodes, ttlMs, handles: 4 });
      await job.ready;
      job.go();
      return process;
    };
    let first = 0;
    const groups: LostGroup[] = [];
    for (const count of sizes.losses) {
      const nodes = Array.from({ length: count }, (_, n) => first + n);
      groups.push({ nodes: nodes.map(nodeName), process: await beginSessions(nodes) });
      first += count;
    }
    for (let index = 0; index < sizes.processes; index++) {
      const living = shareOf(sizes.nodes - lost, sizes.processes, index).map((number) => number + lost);
      await beginSessions(living);
    }
    const observer = stack.use(new Observer(store));
    const cloudEnv = {
      COCOON_NET_VOLCENGINE_ENDPOINT: api ?? "",
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: simulator.region,
    };
    return new Run(
      { kind, sizes, progress },
      stack.move(),
      observer,
      groups,
      (node) => simulator.stopInstance(`i-${node}`),
      (id) => ControllerProcess.start({ target, id, cloudEnv, sizes }),
    );
  }

  readonly loading = async (): Promise<Figure[]> => {
    this.#tell("the controller loads them");
    const startedAt = Date.now();
    const controller = await this.#newController("a");
    this.#leader = controller;
    const connected = Date.now();
    const loadedAt = await controller.ask("loaded", this.#sizes.nodes);
    const { nodes, leasesPerNode } = this.#sizes;
    return [
      this.#figure(
        `a controller of ${nodes} nodes with ${leasesPerNode} leases each leads`,
        loadedAt - connected,
        "ms",
      ),
      this.#figure("  its process's start before that", connected - startedAt, "ms"),
    ];
  };

  readonly idling = async (): Promise<Figure[]> => {
    this.#tell("nothing happens");
    const controller = this.#leading;
    // What the load leaves behind is cleared away first.
    await pause(this.#sizes.idleMs / 4);
    const before = controller.usage();
    const startedAt = performance.now();
    await pause(this.#sizes.idleMs);
    const { cpuMs, residentBytes } = controller.usage();
    const share = (cpuMs - before.cpuMs) / (performance.now() - startedAt);
    return [
      this.#figure("  idle: share of a core", share, "share", { most: idleAim }),
      this.#figure("  its resident size, at most", residentBytes, "bytes", { most: loadedAim }),
    ];
  };

  readonly takeover = async (): Promise<Figure[]> => {
    this.#tell("the leader is killed");
    const { leaderTtlMs, nodes } = this.#sizes;
    const [old, next] = [this.#leading, await this.#newController("b")];
    const killedAt = Date.now();
    await old[Symbol.asyncDispose]();
    this.#leader = next;
    const electedAt = await this.#observer.elected(killedAt, leaderTtlMs * 4 + 60_000);
    const loadedAt = await next.ask("loaded", nodes);
    return [
      this.#figure("leader killed: the next is elected", electedAt - killedAt, "ms", {
        most: leaderTtlMs + marginMs,
      }),
      this.#figure("  it has loaded everything after", loadedAt - electedAt, "ms"),
    ];
  };

  get losses(): readonly (() => Promise<Figure[]>)[] {
    return this.#groups.map((group) => () => this.#lose(group));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #lose({ nodes, process }: LostGroup): Promise<Figure[]> {
    const what = nodes.length === 1 ? "one node" : `${nodes.length} nodes`;
    const { sessionTtlMs, suspectAfterMs, reclaimAfterMs } = this.#sizes;
    const controller = this.#leading;
    const least = reclaimLeast(nodes.length, this.#sizes);
    await controller.ask("news");
    const before = controller.usage();
    const seen = async (type: string, withinMs: number): Promise<number[]> => {
      try {
        return await this.#observer.seen(type, nodes, withinMs);
      } catch (error) {
        const { calls, problems } = await controller.ask("news");
        const said = problems.slice(-3).join("; ") || "no problem";
        // Sessions that a busy machine has lost are silent nodes too, and many of them pause every reclaim (G13).
        const suspect = this.#observer.count("node-suspect");
        throw new Error(
          `${describeError(error)}; ${suspect} nodes were suspect in all, ${this.#observer.count("reclaim-paused")} pauses; ` +
            `${calls.length} cloud calls; the controller told ${said}`,
        );
      }
    };
    this.#tell(`${what} lost`);
    const lostAt = Date.now();
    for (const node of nodes) this.#stopInstance(node);
    await process[Symbol.asyncDispose]();
    const suspect = await seen("node-suspect", sessionTtlMs * 3 + 60_000);
    this.#tell(`${what} suspect`);
    const patienceMs = reclaimAfterMs + least.ms * 4 + 120_000;
    const fenced = await seen("subnet-quarantined", patienceMs);
    this.#tell(`${what} fenced`);
    const freed = await seen("subnet-freed", patienceMs);
    const { calls, firstCallAt = lostAt, problems } = await controller.ask("news");
    const refused = calls.filter(({ result }) => result === "throttled").length;
    const writes = calls.filter(({ action }) => !action.startsWith("Describe")).length;
    const count = (text: string, ours: number, more: Partial<Figure> = {}): Figure => ({
      ...this.#figure(`  ${text}`, ours, "count"),
      ...more,
    });
    return [
      this.#figure(`${what} lost: suspect, the last one`, Math.max(...suspect) - lostAt, "ms", {
        most: sessionTtlMs + suspectAfterMs + marginMs,
      }),
      this.#figure(
        "  all fenced after the cloud was asked first",
        Math.max(...fenced) - firstCallAt,
        "ms",
        undefined,
        least.fencedMs,
      ),
      this.#figure(
        "  all free after that",
        Math.max(...freed) - firstCallAt,
        "ms",
        { mostTimes: ratioAim },
        least.ms,
      ),
      this.#figure("  processor time of the controller", controller.usage().cpuMs - before.cpuMs, "ms"),
      count("cloud requests", calls.length, { raw: least.reads + least.writes }),
      count("of them writes", writes, { raw: least.writes, aim: { mostTimes: ratioAim } }),
      count("refused for the rate", refused, { aim: { most: 0 } }),
      count("problems told", problems.length, { aim: { most: 0 } }),
    ];
  }

  get #leading(): ControllerProcess {
    if (this.#leader === undefined) throw new Error("no controller was started");
    return this.#leader;
  }

  #figure(what: string, ours: number, unit: Figure["unit"], aim?: Figure["aim"], raw?: number): Figure {
    const figure = { store: this.#kind, what, unit, ours };
    return { ...figure, ...(aim === undefined ? {} : { aim }), ...(raw === undefined ? {} : { raw }) };
  }

  #tell(what: string): void {
    this.#progress.part(`${this.#kind}: ${what}`);
  }
}

/** Nodes whose agents are one process; when it is killed all of them are silent. */
interface LostGroup {
  readonly nodes: readonly string[];
  readonly process: ClientProcess;
}

async function seedLeases(
  kind: StoreKind,
  server: BenchServer,
  sizes: ControllerSizes,
  progress: Progress,
): Promise<void> {
  const { nodes, leasesPerNode, processes: count } = sizes;
  progress.part(`${kind}: ${(nodes * leasesPerNode).toLocaleString("en")} leases`);
  await using stack = new DisposeStack();
  const processes = Array.from({ length: count }, () => stack.use(new ClientProcess()));
  await runTogether(
    processes,
    server,
    "writeLeases",
    (index): ParamsOf<"writeLeases"> => ({
      ...{ target: server.target("ours"), side: "ours", generation: 0, inFlight: 8, handles: 4 },
      ...{ leasesPerNode, nodes: shareOf(nodes, count, index) },
    }),
    (done) => progress.done(done, nodes * leasesPerNode),
  );
}

function notesOn(sizes: ControllerSizes): string[] {
  const { rates, delays, sessionTtlMs, suspectAfterMs, reclaimAfterMs, quarantineMs } = sizes;
  const leasts = sizes.losses.map((count): [number, ReclaimLeast] => [count, reclaimLeast(count, sizes)]);
  return [
    `sessions of ${sessionTtlMs / 1_000} s; suspect ${suspectAfterMs / 1_000} s after their end, reclaimed ${reclaimAfterMs / 1_000} s after it; quarantine ${quarantineMs / 1_000} s.`,
    `Volcengine: ${rates.read.perSecond} reads/s in bursts of ${rates.read.burst} and ${rates.write.perSecond} writes/s in bursts of ${rates.write.burst} (the account lets ${burstMargin} more through); a detachment takes ${delays.detachMs / 1_000} s, a deletion ${delays.deleteEniMs / 1_000} s.`,
    ...(leasts[0]?.[1].counted ?? []).map((line) => `${line}.`),
    ...leasts.map(([count, { reckoned }]) => `${count} lost: ${reckoned}.`),
  ];
}
