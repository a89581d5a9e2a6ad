import { cpus } from "node:os";
import { alignTable } from "../table.ts";
import type { ServerName } from "./dhcp-servers.ts";
import type { Filling } from "./fill.ts";
import { type AtRate, type Work, works } from "./measure.ts";
import { median } from "./search.ts";

export interface Report {
  /** Highest rates, one per round. */
  readonly rates: Readonly<Record<Work, ReadonlyMap<ServerName, readonly number[]>>>;
  /** At 80 % of each one's highest rate, and at one that all (but dnsmasq) can stand. */
  readonly costs: Readonly<Record<Work, readonly ReadonlyMap<ServerName, AtRate>[]>>;
  /** New clients at the common rate, by the generator of the renewals. */
  readonly check: ReadonlyMap<ServerName, AtRate>;
  /** Renewals each second of a server that looks nothing up and keeps nothing. */
  readonly echo: number | undefined;
  /** A pool of 254 addresses, and one of 64,000. */
  readonly fillings: ReadonlyMap<ServerName, readonly [Filling, Filling]>;
}

const aims: Readonly<Partial<Record<Work, number>>> = { "new clients": 1.5, renewals: 2 };
/** Whether there is a rate that cocoon-net is to reach. */
export function hasAim(work: Work): boolean {
  return aims[work] !== undefined;
}

const mostBytes = [75e6, 200e6] as const;

/** The report as plain text. */
export function formatReport(report: Report): string {
  return [ratesTable(report), costTable(report), limits(report), fillTable(report)]
    .filter((table) => table !== "")
    .join("\n\n");
}

function ratesTable({ rates }: Report): string {
  const rows = [["highest rate at ≤ 0.1 % lost", "server", "median", "rounds", "÷ kea", "aim", "met"]];
  for (const work of works) {
    const kea = median(rates[work].get("kea") ?? []);
    for (const [name, found] of rates[work]) {
      const ratio = median(found) / kea;
      const aim = name === "cocoon-net" ? aims[work] : undefined;
      rows.push([
        workNames[work],
        name,
        `${count(median(found))}/s`,
        found.map(count).join(" "),
        Number.isFinite(ratio) ? `${ratio.toFixed(2)}×` : "",
        aim === undefined ? "" : `≥ ${aim}×`,
        aim === undefined || !Number.isFinite(ratio) ? "" : ratio >= aim ? "yes" : "NO",
      ]);
    }
  }
  return alignTable(rows, 2);
}

const workNames: Readonly<Record<Work, string>> = {
  "new clients": "new clients, exchanges (DORA)",
  renewals: "renewals, REQUEST–ACK",
  "returning clients": "returning clients, DORA + as many RENEWING",
};

function costTable({ costs, check }: Report): string {
  const head = ["p50", "p99", "CPU/ACK", "÷ kea", "generator's", "flushes/1,000", "peak RSS"];
  const rows = [["at a rate of", "each second", "server", ...head]];
  const add = (what: string, figures: ReadonlyMap<ServerName, AtRate>): void => {
    const kea = figures.get("kea")?.cpuUs ?? Number.NaN;
    for (const [name, { rate, p50, p99, cpuUs, generatorUs, flushes, peakBytes }] of figures) {
      const ratio = cpuUs / kea;
      rows.push([
        what,
        `${count(rate)}/s`,
        name,
        `${p50.toFixed(2)} ms`,
        `${p99.toFixed(2)} ms`,
        `${cpuUs.toFixed(0)} µs`,
        Number.isFinite(ratio) ? `${ratio.toFixed(2)}×` : "",
        `${generatorUs.toFixed(0)} µs`,
        count(flushes),
        megabytes(peakBytes),
      ]);
    }
  };
  for (const work of works) for (const figures of costs[work]) add(workNames[work], figures);
  add("new clients, by the generator of the renewals", check);
  return alignTable(rows, 3);
}

/** What can be measured here of a server that takes no processor time at all, or next to none. */
function limits({ costs, echo }: Report): string {
  const lines: string[] = [];
  for (const work of ["new clients", "returning clients"] as const) {
    const perAck = costs[work].flatMap((figures) =>
      [...figures.values()].map(({ generatorUs }) => generatorUs),
    );
    if (perAck.length === 0) continue;
    const acks = work === "new clients" ? 1 : 2;
    const most = (cpus().length * 1_000_000) / (Math.min(...perAck) * acks);
    lines.push(`A server that costs nothing would reach ${count(most)}/s here: ${workNames[work]}.`);
  }
  if (echo !== undefined)
    lines.push(`An echo that keeps nothing reaches ${count(echo)}/s here: ${workNames.renewals}.`);
  return lines.join("\n");
}

function fillTable({ fillings }: Report): string {
  if (fillings.size === 0) return "";
  const rows = [
    ["pool filled", "server", "leases", "lost", "RSS", "aim", "met", "CPU/grant early", "at the end"],
  ];
  for (const [name, sizes] of fillings) {
    for (const [index, { leases, lost, bytes, firstCpuUs, lastCpuUs }] of sizes.entries()) {
      const most = name === "cocoon-net" ? mostBytes[index] : undefined;
      rows.push([
        index === 0 ? "254" : "64,000",
        name,
        count(leases),
        count(lost),
        megabytes(bytes),
        most === undefined ? "" : `≤ ${megabytes(most)}`,
        most === undefined ? "" : bytes <= most ? "yes" : "NO",
        index === 0 ? "" : `${firstCpuUs.toFixed(0)} µs`,
        index === 0 ? "" : `${lastCpuUs.toFixed(0)} µs`,
      ]);
    }
  }
  return alignTable(rows, 2);
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
