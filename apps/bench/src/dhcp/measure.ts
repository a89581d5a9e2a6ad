import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { type RunningServer, type ServerName, startServer } from "./dhcp-servers.ts";
import { GuestsProcess } from "./guests-process.ts";
import { type Lan, leaseSeconds, relayEndpoint, serverEndpoint } from "./lan.ts";
import { dropsOf, type Load, perfdhcp } from "./perfdhcp.ts";
import type { Outcome } from "./relayed-guests.ts";
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

/** What is asked of a server. Its rate is of exchanges, or of renewals. */
export type Work = "new clients" | "renewals" | "returning clients";
export const works: readonly Work[] = ["new clients", "renewals", "returning clients"];

export const mostDrops = 0.001;
/** So many are not lost to a moment in which the machine was busy with something else: that is 0.3 s of a trial. */
const manyDrops = 0.1;
const poolSize = 64_000;
const returning = 20_000;
const manyClients = 1_000_000;
const firstMacs = { warm: "00:0c:01:00:00:00", measured: "00:0d:01:00:00:00" };
/** About what each one was found to stand on two cores; the search begins there. */
const guesses: Readonly<Record<Work, Readonly<Record<ServerName, number>>>> = {
  "new clients": { "cocoon-net": 11_000, kea: 7_500, dnsmasq: 500, echo: 8_000 },
  renewals: { "cocoon-net": 40_000, kea: 19_000, dnsmasq: 1_000, echo: 80_000 },
  "returning clients": { "cocoon-net": 9_000, kea: 5_300, dnsmasq: 500, echo: 8_000 },
};
const limits = { least: 50, most: 200_000 };

/** What a load has come to. */
interface Loaded {
  /** Share of the messages that got no answer, or a wrong one, within a second. */
  readonly drops: number;
  readonly acks: number;
  /** Whether the generator could send at the rate. */
  readonly isFast: boolean;
  /** Of the message that is to be answered, in milliseconds, when timed. */
  readonly p50: number;
  readonly p99: number;
  /** Processor time of the generator, in milliseconds. */
  readonly cpuMs: number;
  /** What else has to be said. */
  readonly remark?: string;
}

/** A server on which a load can be put. */
interface Ready extends AsyncDisposable {
  readonly server: RunningServer;
  load(rate: number, timed: boolean): Promise<Loaded>;
}

const preparations: Readonly<Record<Work, (bench: Bench, name: ServerName) => Promise<Ready>>> = {
  "new clients": forNewClients,
  renewals: forRenewals,
  "returning clients": forReturningClients,
};

/** The highest rate at which at most 0.1 % of the messages are not answered within a second. */
export async function highest(
  bench: Bench,
  name: ServerName,
  work: Work,
  guess: number = guesses[work][name],
): Promise<number> {
  const prepare = preparations[work];
  if (work === "new clients") {
    // On a fresh server each time, so that there are addresses and no lease is known.
    return await highestRate(
      guess,
      async (rate) => {
        await using ready = await prepare(bench, name);
        return await tryRate(bench, name, work, rate, ready);
      },
      limits,
    );
  }
  await using ready = await prepare(bench, name);
  return await highestRate(guess, (rate) => tryRate(bench, name, work, rate, ready), limits);
}

async function tryRate(
  bench: Bench,
  name: ServerName,
  work: Work,
  rate: number,
  { server, load }: Ready,
): Promise<Verdict> {
  const before = server.cpuMs();
  const { drops, isFast, acks, remark } = await load(rate, false);
  const cpuUs = ((server.cpuMs() - before) * 1_000) / acks;
  const verdict = drops > manyDrops ? "fails" : drops > mostDrops || !isFast ? "slips" : "passes";
  const why = drops <= mostDrops && !isFast ? ": the generator is too slow" : "";
  const lost = `${(drops * 100).toFixed(3)} % lost`;
  bench.say(
    `${name}, ${work}, ${rate}/s: ${lost}, ${cpuUs.toFixed(0)} µs of processor per ACK: ${verdict}${why}${remark ?? ""}`,
  );
  await pause(300); // what was not answered in time may still be under way
  return verdict;
}

async function forNewClients(bench: Bench, name: ServerName): Promise<Ready> {
  return await ready(bench, name, async () => {
    await warmUp(bench, name);
    return (rate, timed) => exchange(bench, { rate, clients: manyClients, timed });
  });
}

/** As many returning clients begin anew (DISCOVER) as renew (REQUEST with ciaddr): perfdhcp does not renew alone. */
async function forReturningClients(bench: Bench, name: ServerName): Promise<Ready> {
  return await ready(bench, name, async () => {
    const rate = fillingRate(name);
    const clients = clientsOf(name);
    const seconds = Math.ceil(clients / rate) + 1;
    await perfdhcp(bench.lan, { rate, seconds, clients, firstMac: firstMacs.measured });
    return (rate, timed) => exchange(bench, { rate, renewals: rate, clients, timed });
  });
}

/** Nothing but renewals. */
async function forRenewals(bench: Bench, name: ServerName): Promise<Ready> {
  return await ready(bench, name, async (own) => {
    const guests = own.use(guestsOf(bench, clientsOf(name)));
    await guests.lease(fillingRate(name));
    return async (rate) => loadedBy(await guests.renew(rate, bench.seconds), rate);
  });
}

/** A fresh server, and what puts the load on it. */
async function ready(
  bench: Bench,
  name: ServerName,
  prepare: (own: AsyncDisposableStack) => Promise<Ready["load"]>,
): Promise<Ready> {
  await using own = new AsyncDisposableStack();
  const server = own.use(await startServer(name, { ...bench, poolSize }));
  const load = await prepare(own);
  const kept = own.move();
  return { server, load, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function exchange(
  { lan, seconds }: Bench,
  load: Pick<Load, "rate" | "renewals" | "clients" | "timed">,
): Promise<Loaded> {
  const result = await perfdhcp(lan, { ...load, seconds, firstMac: firstMacs.measured });
  return {
    drops: dropsOf(result),
    acks: result.acks.received + result.renewals.received,
    isFast: result.offers.sent >= slowest * load.rate * seconds,
    p50: quantile(result.latenciesMs, 0.5),
    p99: quantile(result.latenciesMs, 0.99),
    cpuMs: result.cpuMs,
  };
}

/** Share of the rate that a generator must keep. */
const slowest = 0.98;

function loadedBy({ sent, answered, wrong, example, begun, tookMs, ...rest }: Outcome, rate: number): Loaded {
  return {
    ...rest,
    drops: 1 - answered / sent,
    isFast: (begun * 1_000) / tookMs >= slowest * rate,
    ...(wrong > 0 && { remark: `; ${wrong} wrong answers, such as ${example}` }),
  };
}

function guestsOf({ lan }: Bench, count: number): GuestsProcess {
  const options = { relay: relayEndpoint, server: serverEndpoint, count, leaseSeconds };
  return new GuestsProcess(options, ["ip", "netns", "exec", lan.guests]);
}

function clientsOf(name: ServerName): number {
  return name === "dnsmasq" ? 1_000 : returning;
}

/** What a server that has run for a while has behind it, without using up the pool. */
async function warmUp(bench: Bench, name: ServerName): Promise<void> {
  const rate = fillingRate(name);
  await perfdhcp(bench.lan, { rate, seconds: bench.warmUpSeconds, clients: 3_000, firstMac: firstMacs.warm });
}

function fillingRate(name: ServerName): number {
  return Math.min(4_000, guesses["new clients"][name] / 2);
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
  await using ready = await preparations[work](bench, name);
  return await measured(ready.server, rate, () => ready.load(rate, true));
}

/** New clients as `atRate` has them, but by the generator of the renewals: both must find the same. */
export async function byOwnGuests(bench: Bench, name: ServerName, rate: number): Promise<AtRate> {
  await using ready = await forNewClients(bench, name);
  await using guests = guestsOf(bench, rate * bench.seconds);
  return await measured(ready.server, rate, async () => loadedBy(await guests.lease(rate), rate));
}

async function measured(server: RunningServer, rate: number, load: () => Promise<Loaded>): Promise<AtRate> {
  const cpu = server.cpuMs();
  const flushes = diskFlushes();
  const { acks, p50, p99, cpuMs } = await load();
  return {
    rate,
    p50,
    p99,
    cpuUs: ((server.cpuMs() - cpu) * 1_000) / acks,
    generatorUs: (cpuMs * 1_000) / acks,
    flushes: ((diskFlushes() - flushes) * 1_000) / acks,
    peakBytes: server.memory().peak,
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
