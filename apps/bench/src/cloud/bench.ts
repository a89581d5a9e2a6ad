import type { CallCounts } from "@cocoon-net/cloud-testkit";
import { CloudBudget, type CloudCall, describeError } from "@cocoon-net/core";
import { AskedProgram, forkBeside } from "../child-program.ts";
import type { Figure } from "../figure.ts";
import { type Progress, silent } from "../progress.ts";
import { initAll } from "./init.ts";
import { type Platform, type PlatformName, platformNames, platformOf } from "./platforms.ts";
import type { SimulatorAnswers } from "./simulator-worker.ts";

export interface CloudBenchOptions {
  /** Numbers of nodes that are set up at once, one figure group each. Default 1 and 100. */
  readonly nodes?: readonly number[];
  /** Default both. */
  readonly platforms?: readonly PlatformName[];
  /** Addresses for VMs on each node, where they are given one by one. Default 140. */
  readonly poolSize?: number;
  /** For tests: rates times, delays divided by it. Default 1, in real time. */
  readonly speed?: number;
  readonly progress?: Progress;
}

export interface CloudBenchResult {
  readonly figures: readonly Figure[];
  /** What was played and how the least was reckoned. */
  readonly notes: readonly string[];
  readonly failures: readonly string[];
}

/** What setting nodes up costs at the clouds, beside the least that it can. */
export async function cloudBench(options: CloudBenchOptions = {}): Promise<CloudBenchResult> {
  const { nodes = [1, 100], platforms = platformNames, poolSize = 140, speed = 1 } = options;
  const { progress = silent } = options;
  const figures: Figure[] = [];
  const notes: string[] = [];
  const failures: string[] = [];
  for (const name of platforms) {
    const platform = platformOf(name, { poolSize, speed });
    notes.push(`${name}: ${platform.played}.`);
    notes.push(...platform.least(1).counted.map((line) => `${name}: ${line}.`));
    for (const count of nodes) {
      try {
        await loadDriver(platform);
        figures.push(...(await measure(platform, count, poolSize, progress)));
        notes.push(`${name}, ${nodesText(count)}: ${platform.least(count).reckoned}.`);
      } catch (error) {
        failures.push(`${name}, ${nodesText(count)}: ${describeError(error)}`);
        progress.part(failures.at(-1) ?? "");
      }
    }
  }
  return { figures, notes, failures };
}

function simulatorProcess(): AskedProgram<SimulatorAnswers> {
  return new AskedProgram("the simulator", forkBeside(import.meta.url, "simulator-worker"));
}

/** The vendor's client is loaded with the first call; that takes time of its own. */
async function loadDriver({ driver, name, simulated }: Platform): Promise<void> {
  await using simulator = simulatorProcess();
  const [node] = await simulator.ask("start", simulated, 1);
  await using cloud = driver.open(name, { env: { ...process.env, ...node?.env } });
  await cloud.describeInstance((await cloud.describeSelf()).instanceID);
}

async function measure(
  platform: Platform,
  count: number,
  poolSize: number,
  progress: Progress,
): Promise<Figure[]> {
  const { name, driver, rates, simulated } = platform;
  const what = nodesText(count);
  progress.part(`${name}: init of ${what}`);
  await using simulator = simulatorProcess();
  const nodes = await simulator.ask("start", simulated, count);
  const calls: CloudCall[] = [];
  const { ms, networks } = await initAll({
    driver,
    platform: name,
    nodes,
    budget: new CloudBudget({ rates: { [name]: { read: rates.read, write: rates.write } } }),
    poolSize,
    onCall: (call) => calls.push(call),
    onDone: (done) => progress.done(done, count),
  });
  const short = networks.filter(({ addresses }) => addresses.length < poolSize).length;
  const counted = countOf(await simulator.ask("callResults"));
  const least = platform.least(count);
  const figure = (text: string, ours: number, more: Partial<Figure> = {}): Figure => ({
    store: name,
    what: `  ${text}`,
    unit: "count",
    ours,
    ...more,
  });
  return [
    {
      store: name,
      what: `init of ${what}`,
      unit: "ms",
      ours: ms,
      raw: least.ms,
      aim: { mostTimes: aim },
    },
    figure("requests", counted.all, { raw: least.reads + least.writes, aim: { mostTimes: aim } }),
    figure("of them writes", counted.writes, { raw: least.writes }),
    figure("of them reads", counted.all - counted.writes, { raw: least.reads }),
    figure("refused for the rate", counted.throttled, { aim: { most: 0 } }),
    figure("refused for another reason", counted.refused, { aim: { most: 0 } }),
    figure("nodes with too few addresses", short, { aim: { most: 0 } }),
    figure("requests that the driver does not report", counted.all - calls.length, { aim: { most: 0 } }),
  ];
}

const aim = 1.15;

const throttleCodes = new Set(["FlowLimitExceeded", "AccountFlowLimitExceeded", "rateLimitExceeded"]);

function countOf(results: CallCounts): { all: number; writes: number; throttled: number; refused: number } {
  const counted = { all: 0, writes: 0, throttled: 0, refused: 0 };
  for (const [action, byResult] of Object.entries(results)) {
    for (const [result, count] of Object.entries(byResult)) {
      counted.all += count;
      if (!/^Describe|^List|\.(get|list|aggregatedList|wait)$/.test(action)) counted.writes += count;
      if (throttleCodes.has(result)) counted.throttled += count;
      else if (result !== "ok") counted.refused += count;
    }
  }
  return counted;
}

function nodesText(count: number): string {
  return count === 1 ? "one node" : `${count} nodes at once`;
}
