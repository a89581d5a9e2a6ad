import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  decode,
  describeError,
  incarnationSchema,
  keys,
  leaseSchema,
  listAll,
  pause,
  prefixes,
  type Store,
} from "@cocoon-net/core";
import { ChaosCluster, type ChaosClusterOptions } from "./chaos-cluster.ts";
import { Dice } from "./dice.ts";
import type { Disturbance } from "./disturbance.ts";
import { pickFault } from "./faults.ts";
import { type HistoryEntry, historyFile, storeFile, toLines } from "./history.ts";
import { withdrawRequests } from "./operator-faults.ts";
import { Recorder } from "./recorder.ts";

export interface ChaosOptions extends Omit<ChaosClusterOptions, "onEnded"> {
  readonly minutes: number;
  readonly seed: number;
  readonly tell: (line: string) => void;
}

export interface ChaosResult {
  readonly history: readonly HistoryEntry[];
  /** What did not come right again after everything was healed, or why the run ended early; empty when all is well. */
  readonly unrest: string;
}

const nodes = 4;
const guestsPerNode = 3;
/** Disturbances at a time, and pauses between their beginnings. */
const atOnce = 5;
const pauseMs = [500, 3_000] as const;
/**
 * A minute in which a store that was restarted may have lost writes, a lease, a session, a reclaim with its quarantine
 * and the retries' longest pause, with room for a busy machine.
 */
const restMs = 240_000;

/**
 * Builds a cluster, disturbs it for so long, heals it, waits until it is at rest. Whatever ends that, its history is
 * written into the directory then, and what the store holds where the cluster is not at rest.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { minutes, seed, tell, signal } = options;
  const startedAt = performance.now();
  const log = (line: string): void =>
    tell(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(6)} s  ${line}`);
  let recorder: Recorder | undefined;
  await using cluster = await ChaosCluster.start({
    ...options,
    onEnded: (name, how) => {
      log(`${name} ended by itself: ${how}`);
      recorder?.fault(`ended by itself: ${how}`, name, false);
    },
  });
  await using recording = new Recorder(cluster);
  recorder = recording;
  for (const name of ["c1", "c2"]) await cluster.addController(name);
  for (let index = 1; index <= nodes; index++) {
    const at = Date.now();
    recorder.note({ kind: "instance", at, node: `n${index}`, running: true });
    const { name: node, guests } = await cluster.addNode(`n${index}`, guestsPerNode);
    for (const { name: guest } of guests) recorder.note({ kind: "placed", at, guest, node });
  }
  log(`${nodes} nodes with ${guestsPerNode} guests each, two controllers, one ${options.store}`);
  let unrest: string;
  try {
    await disturb(cluster, recorder, { dice: new Dice(seed), forMs: minutes * 60_000, log, signal });
    log("everything is healed");
    unrest = await untilRest(cluster, recorder, signal);
  } catch (error) {
    unrest = describeError(error);
  }
  log(unrest === "" ? "the cluster is at rest" : `no rest: ${unrest}`);
  const history = await recorder.history();
  await writeFile(join(options.directory, historyFile), toLines(history));
  if (unrest !== "") await writeFile(join(options.directory, storeFile), await contentsOf(cluster));
  return { history, unrest };
}

/** What all jobs wait for. */
async function holdsJobs(store: Store): Promise<string> {
  const { entry } = await store.get(keys.incarnation);
  const { recovering = false, since = "" } = entry ? decode(incarnationSchema, entry) : {};
  return recovering ? `the store is recovering since ${since}; ` : "";
}

/** A line for each key; why, where the store does not say. */
async function contentsOf({ store }: ChaosCluster): Promise<string> {
  try {
    const { entries } = await listAll(store, "");
    return entries.map((entry) => `${entry.modRevision} ${entry.key} ${entry.value}\n`).join("");
  } catch (error) {
    return `${describeError(error)}\n`;
  }
}

interface DisturbOptions {
  readonly dice: Dice;
  readonly forMs: number;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

async function disturb(
  cluster: ChaosCluster,
  recorder: Recorder,
  { dice, forMs, log, signal }: DisturbOptions,
): Promise<void> {
  const end = performance.now() + forMs;
  const busy = new Set<string>();
  const healing = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const heal = async (disturbance: Disturbance): Promise<void> => {
    const { what, on, lastsMs } = disturbance;
    try {
      await pause(Math.min(lastsMs, Math.max(0, end - performance.now())), signal);
      const outcome = await disturbance.end();
      if (outcome !== undefined) log(`${on}: ${what}: ${outcome}`);
      else if (lastsMs > 0) log(`${on}: ${what}: over`);
    } catch (error) {
      failures.push(error);
    } finally {
      recorder.fault(what, on, true);
      busy.delete(on);
    }
  };
  while (performance.now() < end && failures.length === 0) {
    await pause(dice.between(...pauseMs), signal);
    if (busy.size >= atOnce) continue;
    const begun = await pickFault(dice)({ cluster, dice, recorder, signal, busy });
    if (begun === undefined) continue;
    log(`${begun.on}: ${begun.what}`);
    recorder.fault(begun.what, begun.on, false);
    busy.add(begun.on);
    const healed: Promise<void> = heal(begun).finally(() => healing.delete(healed));
    healing.add(healed);
  }
  await Promise.all(healing);
  for (const machine of [...cluster.nodes, ...cluster.controllers]) await cluster.setClock(machine, 0);
  if (failures.length > 0) throw new Error(`a disturbance could not be ended: ${describeError(failures[0])}`);
  await withdrawRequests({ cluster, signal });
}

/** Empty when each node is heard, each guest has a lease that the store knows, and no job is left. */
async function untilRest(cluster: ChaosCluster, recorder: Recorder, signal: AbortSignal): Promise<string> {
  const deadline = performance.now() + restMs;
  let wrong = "";
  while (performance.now() < deadline) {
    await pause(1_000, signal);
    wrong = await whatIsWrong(cluster, recorder).catch((error: unknown) => describeError(error));
    if (wrong !== "") continue;
    // What the guests did in the last moments has reached everybody.
    await pause(5_000, signal);
    await recorder.noteRest();
    return "";
  }
  return wrong;
}

async function whatIsWrong(cluster: ChaosCluster, recorder: Recorder): Promise<string> {
  const { nodes: all, store } = cluster;
  for (const { name } of all) {
    if ((await store.get(keys.alive(name))).entry === undefined) return `${name} is not heard`;
  }
  const [job] = (await listAll(store, prefixes.intents)).entries;
  if (job) return `${await holdsJobs(store)}${job.key} is under way: ${job.value}`;
  const leased = new Map<string, string>();
  for (const entry of (await listAll(store, prefixes.pool)).entries) {
    leased.set(entry.key.slice(prefixes.pool.length), decode(leaseSchema, entry).mac);
  }
  const now = Date.now();
  const holding = new Map<string, string | undefined>();
  for (const entry of await recorder.history()) {
    if (entry.kind === "lease") holding.set(entry.guest, entry.until > now ? entry.ip : undefined);
    if (entry.kind === "lease-end") holding.set(entry.guest, undefined);
  }
  for (const { name, mac } of all.flatMap(({ guests }) => guests)) {
    const ip = holding.get(name);
    if (ip === undefined) return `${name} (${mac}) has no lease`;
    if (leased.get(ip) !== mac) return `the store does not know of the lease of ${ip} of ${name} (${mac})`;
    if (!(await cluster.answers(ip))) return `${name} does not answer at ${ip}`;
  }
  return cluster.check();
}
