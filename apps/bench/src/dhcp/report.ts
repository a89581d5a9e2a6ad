import type { ServerName } from "./dhcp-servers.ts";
import type { AtRate, Filling, Work } from "./measure.ts";
import { median } from "./search.ts";

export interface Report {
  /** Highest rates, one per round. */
  readonly rates: Readonly<Record<Work, ReadonlyMap<ServerName, readonly number[]>>>;
  /** At 80 % of each one's highest rate. */
  readonly atOwnRate: Map<ServerName, AtRate>;
  readonly atCommonRate: Map<ServerName, AtRate>;
  /** A pool of 254 addresses, and one of 64,000. */
  readonly fillings: Map<ServerName, readonly [Filling, Filling]>;
}

const aims: Readonly<Record<Work, number>> = { "new clients": 1.5, renewals: 2 };
const mostBytes = [75e6, 200e6] as const;

/** The report as plain text. */
export function formatReport(report: Report): string {
  return [ratesTable(report), costTable(report), fillTable(report)]
    .filter((table) => table !== "")
    .join("\n\n");
}

function ratesTable({ rates }: Report): string {
  const rows = [["highest rate at ≤ 0.1 % lost", "server", "median", "rounds", "÷ kea", "aim", "met"]];
  for (const work of ["new clients", "renewals"] as const) {
    const kea = median(rates[work].get("kea") ?? []);
    for (const [name, found] of rates[work]) {
      const ratio = median(found) / kea;
      const aim = name === "cocoon-net" ? aims[work] : undefined;
      rows.push([
        work === "new clients"
          ? "new clients, exchanges (DORA)"
          : "returning clients, DORA + as many RENEWING",
        name,
        `${count(median(found))}/s`,
        found.map(count).join(" "),
        Number.isFinite(ratio) ? `${ratio.toFixed(2)}×` : "",
        aim === undefined ? "" : `≥ ${aim}×`,
        aim === undefined || !Number.isFinite(ratio) ? "" : ratio >= aim ? "yes" : "NO",
      ]);
    }
  }
  return table(rows, 2);
}

function costTable({ atOwnRate, atCommonRate }: Report): string {
  const rows = [["new clients at", "server", "p50", "p99", "CPU/exchange", "flushes/1,000", "peak RSS"]];
  for (const figures of [atOwnRate, atCommonRate]) {
    for (const [name, { rate, p50, p99, cpuUs, flushes, peakBytes }] of figures) {
      const times = [`${p50.toFixed(2)} ms`, `${p99.toFixed(2)} ms`, `${cpuUs.toFixed(0)} µs`];
      rows.push([`${count(rate)}/s`, name, ...times, count(flushes), megabytes(peakBytes)]);
    }
  }
  return table(rows, 2);
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
  return table(rows, 2);
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

function table(rows: readonly (readonly string[])[], textColumns: number): string {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column < textColumns ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}
