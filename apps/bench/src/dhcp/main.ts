import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import { InvalidError } from "@cocoon-net/core";
import { benchCommand } from "../bench-command.ts";
import { type ServerName, serverNames } from "./dhcp-servers.ts";
import { Lan } from "./lan.ts";
import { type AtRate, atRate, type Bench, fill, highest, type Work, works } from "./measure.ts";
import { formatReport, type Report } from "./report.ts";
import { median } from "./search.ts";

const usage =
  "npm run bench:dhcp -- [--quick] [--rounds N] [--seconds N] [--only cocoon-net,kea,dnsmasq] [--json FILE] [--cpu-prof DIRECTORY]";

const programs: Readonly<Record<string, string>> = {
  ip: "iproute2",
  ss: "iproute2",
  ping: "iputils-ping",
  perfdhcp: "kea-admin",
  "kea-dhcp4": "kea-dhcp4-server",
  dnsmasq: "dnsmasq-base",
};

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string" },
      json: { type: "string" },
      "cpu-prof": { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const names = values.only === undefined ? serverNames : values.only.split(",").map(serverName);
  checkPrerequisites();
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  const seconds = Number(values.seconds ?? (values.quick ? 2 : 3));
  const directory = mkdtempSync(join(tmpdir(), "bench-dhcp-"));
  const profile = values["cpu-prof"];
  try {
    using lan = await Lan.create();
    const bench: Bench = {
      lan,
      directory: join(directory, "server"),
      seconds,
      warmUpSeconds: values.quick ? 2 : 3,
      say: (line) => console.error(line),
      nodeFlags: profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`],
    };
    const report = await measureAll(bench, names, rounds);
    console.log(
      `\n${machine()}. ${rounds} rounds of ${seconds} s trials. Server and load generator share the cores.\n`,
    );
    console.log(formatReport(report));
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measureAll(bench: Bench, names: readonly ServerName[], rounds: number): Promise<Report> {
  const rates: Record<Work, Map<ServerName, number[]>> = { "new clients": new Map(), renewals: new Map() };
  const costs: Record<Work, Map<ServerName, AtRate>[]> = { "new clients": [], renewals: [] };
  const report: Report = { rates, costs, fillings: new Map() };
  for (let round = 0; round < rounds; round++) {
    for (const work of works) {
      for (const name of names) {
        const found = rates[work].get(name) ?? [];
        rates[work].set(name, found);
        if (name === "dnsmasq" && round > 0) continue; // far from the others; once is enough
        found.push(await highest(bench, name, work, found.at(-1)));
        bench.say(`${name}, ${work}: ${found.at(-1)}/s in round ${round + 1}`);
      }
    }
  }
  for (const work of works) {
    const own = new Map<ServerName, AtRate>();
    const common = new Map<ServerName, AtRate>();
    for (const name of names) {
      const highestRate = median(rates[work].get(name) ?? []);
      if (highestRate > 0) own.set(name, await atRate(bench, name, work, Math.floor(0.8 * highestRate)));
      common.set(name, await atRate(bench, name, work, name === "dnsmasq" ? 50 : 3_000));
    }
    costs[work].push(own, common);
  }
  for (const name of names) {
    if (name === "dnsmasq") continue; // it would take minutes
    const small = await fill(bench, name, 254, 254);
    const large = await fill(bench, name, 64_000, 3_000);
    report.fillings.set(name, [small, large]);
  }
  return report;
}

function serverName(text: string): ServerName {
  const name = serverNames.find((each) => each === text);
  if (name !== undefined) return name;
  throw new InvalidError(`--only ${text} is not known`, { hint: usage });
}

function checkPrerequisites(): void {
  if (process.getuid?.() !== 0)
    throw new InvalidError("network namespaces need root", { hint: "run it with sudo" });
  const missing = Object.keys(programs).filter((program) => !isOnPath(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => programs[program]))].join(" ");
  throw new InvalidError(`missing ${missing.join(", ")}`, {
    hint: `apt-get install --no-install-recommends ${packages} (and stop the services that it starts)`,
  });
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function machine(): string {
  const release = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  const load = (loadavg()[0] ?? 0).toFixed(1);
  return `${cpus().length} × ${cpus()[0]?.model ?? "CPU"}, ${release}, Node ${process.version}, load ${load} at the end`;
}
