import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { type RunningServer, type ServerName, startServer } from "./dhcp-servers.ts";
import type { Lan } from "./lan.ts";
import { dropsOf, type Load, type LoadResult, perfdhcp } from "./perfdhcp.ts";
import { highestRate, quantile, type Verdict } from "./search.ts";

export interface Bench {
  readonly lan: Lan;
  readonly directory: string;
  /** Seconds of each trial. */
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly say: (line: string) => void;
  readonly nodeFlags: readonly string[];
}

/** What is asked of a server, in messages that it has to acknowledge per second. */
export type Work = "new clients" | "renewals";
export const works: readonly Work[] = ["new clients", "renewals"];

export const mostDrops = 0.001;
/** So many are not lost to a moment in which the machine was busy with something else. */
const manyDrops = 0.02;
const poolSize = 64_000;
const returning = 20_000;
const manyClients = 1_000_000;
const firstMacs = { warm: "00:0c:01:00:00:00", measured: "00:0d:01:00:00:00" };
/** About what each one was found to stand on two cores; the search begins there. */
const guesses: Readonly<Record<Work, Readonly<Record<ServerName, number>>>> = {
  "new clients": { "cocoon-net": 11_000, kea: 7_500, dnsmasq: 500 },
  renewals: { "cocoon-net": 9_000, kea: 5_300, dnsmasq: 200 },
};
const limits = { least: 50, most: 40_000 };

/** The highest rate at which at most 0.1 % of the messages are not answered within a second. */
export function highest(
  bench: Bench,
  name: ServerName,
  work: Work,
  guess: number = guesses[work][name],
): Promise<number> {
  return work === "new clients"
    ? highestRate(guess, (rate) => tryNewClients(bench, name, rate), limits)
    : renewing(bench, name, (server) =>
        highestRate(guess, (rate) => tryRenewals(bench, name, server, rate), limits),
      );
}

function clientsOf(name: ServerName): number {
  return name === "dnsmasq" ? 1_000 : returning;
}

/** On a fresh server that has been warmed up, so that there are addresses and no lease is known. */
async function tryNewClients(bench: Bench, name: ServerName, rate: number): Promise<Verdict> {
  await using server = await startServer(name, { ...bench, poolSize });
  await warmUp(bench, name);
  return await tryLoad(bench, name, "new clients", { rate, clients: manyClients }, server);
}

/** As many returning clients begin anew (DISCOVER) as renew (REQUEST with ciaddr): perfdhcp does not renew alone. */
async function tryRenewals(
  bench: Bench,
  name: ServerName,
  server: RunningServer,
  rate: number,
): Promise<Verdict> {
  return await tryLoad(bench, name, "renewals", { rate, renewals: rate, clients: clientsOf(name) }, server);
}

async function tryLoad(
  bench: Bench,
  name: ServerName,
  work: Work,
  load: Pick<Load, "rate" | "renewals" | "clients">,
  server: RunningServer,
): Promise<Verdict> {
  const { seconds } = bench;
  const before = server.cpuMs();
  const result = await perfdhcp(bench.lan, { ...load, seconds, firstMac: firstMacs.measured });
  const cpuMs = server.cpuMs() - before;
  const drops = dropsOf(result);
  const isFast = result.offers.sent >= 0.98 * load.rate * seconds;
  const verdict = drops > manyDrops ? "fails" : drops > mostDrops || !isFast ? "slips" : "passes";
  const why = drops <= mostDrops && !isFast ? ": the generator is too slow" : "";
  bench.say(
    `${name}, ${work}, ${load.rate}/s: ${(drops * 100).toFixed(3)} % lost, ${((cpuMs * 1_000) / acksOf(result)).toFixed(0)} µs of processor per ACK: ${verdict}${why}`,
  );
  await pause(300); // what was not answered in time may still be under way
  return verdict;
}

function acksOf({ acks, renewals }: LoadResult): number {
  return acks.received + renewals.received;
}

/** What a server that has run for a while has behind it, without using up the pool. */
async function warmUp(bench: Bench, name: ServerName): Promise<void> {
  const rate = fillingRate(name);
  await perfdhcp(bench.lan, { rate, seconds: bench.warmUpSeconds, clients: 3_000, firstMac: firstMacs.warm });
}

function fillingRate(name: ServerName): number {
  return Math.min(4_000, guesses["new clients"][name] / 2);
}

async function renewing<T>(
  bench: Bench,
  name: ServerName,
  action: (server: RunningServer) => Promise<T>,
): Promise<T> {
  await using server = await startServer(name, { ...bench, poolSize });
  const rate = fillingRate(name);
  const clients = clientsOf(name);
  const seconds = Math.ceil(clients / rate) + 1;
  await perfdhcp(bench.lan, { rate, seconds, clients, firstMac: firstMacs.measured });
  return await action(server);
}

export interface AtRate {
  readonly rate: number;
  /** Of the message that is to be answered, both halves of an exchange and renewals, in milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Processor time per ACK, in microseconds: the server's, and the generator's. */
  readonly cpuUs: number;
  readonly generatorUs: number;
  /** Flushes that reached the disk, per 1,000 ACKs; the whole machine's. */
  readonly flushes: number;
  readonly peakBytes: number;
}

/** What clients feel and cost at a rate that the server can stand. */
export async function atRate(bench: Bench, name: ServerName, work: Work, rate: number): Promise<AtRate> {
  const load = { rate, seconds: bench.seconds, firstMac: firstMacs.measured, timed: true };
  if (work === "renewals") {
    return await renewing(bench, name, (server) =>
      measureAt(bench, server, { ...load, renewals: rate, clients: clientsOf(name) }),
    );
  }
  await using server = await startServer(name, { ...bench, poolSize });
  await warmUp(bench, name);
  return await measureAt(bench, server, { ...load, clients: manyClients });
}

async function measureAt(bench: Bench, server: RunningServer, load: Load): Promise<AtRate> {
  const cpu = server.cpuMs();
  const flushes = diskFlushes();
  const result = await perfdhcp(bench.lan, load);
  const acks = acksOf(result);
  return {
    rate: load.rate,
    p50: quantile(result.latenciesMs, 0.5),
    p99: quantile(result.latenciesMs, 0.99),
    cpuUs: ((server.cpuMs() - cpu) * 1_000) / acks,
    generatorUs: (result.cpuMs * 1_000) / acks,
    flushes: ((diskFlushes() - flushes) * 1_000) / acks,
    peakBytes: server.memory().peak,
  };
}

export interface Filling {
  readonly leases: number;
  /** Resident afterwards. */
  readonly bytes: number;
  /** Processor time per grant, in microseconds, in the first and in the last tenth of the pool. */
  readonly firstCpuUs: number;
  readonly lastCpuUs: number;
  readonly lost: number;
}

/** Grants every address of a pool. */
export async function fill(bench: Bench, name: ServerName, size: number, rate: number): Promise<Filling> {
  await using server = await startServer(name, { ...bench, poolSize: size });
  const tenth = Math.floor(size / 10);
  const costs: number[] = [];
  let granted = 0;
  let sent = 0;
  for (let part = 0; part < 10; part++) {
    const count = part === 9 ? size - granted : tenth;
    const seconds = Math.max(1, Math.round(count / rate));
    const before = server.cpuMs();
    const firstMac = `00:0e:${part.toString(16).padStart(2, "0")}:00:00:00`;
    const load = { rate: Math.ceil(count / seconds), seconds, clients: manyClients, firstMac };
    const result: LoadResult = await perfdhcp(bench.lan, load);
    costs.push(((server.cpuMs() - before) * 1_000) / result.acks.received);
    granted += result.acks.received;
    sent += result.offers.sent;
  }
  return {
    leases: granted,
    bytes: server.memory().now,
    // The first tenth includes what compiling costs; the second does not.
    firstCpuUs: costs[1] ?? Number.NaN,
    lastCpuUs: costs[9] ?? Number.NaN,
    lost: sent - granted,
  };
}

/** Documentation/admin-guide/iostats: the 16th field of a device counts its flush requests. */
function diskFlushes(): number {
  let flushes = 0;
  for (const line of readFileSync("/proc/diskstats", "utf8").split("\n")) {
    flushes += Number(line.trim().split(/\s+/)[18] ?? 0);
  }
  return flushes;
}
