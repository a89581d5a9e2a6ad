import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseArgs } from "node:util";
import { InvalidError } from "@cocoon-net/core";
import { benchCommand } from "../bench-command.ts";
import { type ServerName, serverNames } from "./dhcp-servers.ts";
import { type Filling, fill } from "./fill.ts";
import { Lan } from "./lan.ts";
import { type AtRate, atRate, type Bench, byOwnGuests, highest, type Work, works } from "./measure.ts";
import { formatReport, hasAim, type Report } from "./report.ts";
import { median } from "./search.ts";

const usage =
  "npm run bench:dhcp -- [--quick] [--rounds N] [--seconds N] [--only cocoon-net,kea,dnsmasq] [--work renewals] [--json FILE] [--cpu-prof DIRECTORY]";

const programs: Readonly<Record<string, string>> = {
  ip: "iproute2",
  ss: "iproute2",
  ping: "iputils-ping",
  perfdhcp: "kea-admin",
  "kea-dhcp4": "kea-dhcp4-server",
  dnsmasq: "dnsmasq-base",
};

/** Exchanges or renewals each second, of which all but dnsmasq stand more. */
const commonRate = 3_000;

type Rates = Record<Work, Map<ServerName, number[]>>;
type Costs = Record<Work, Map<ServerName, AtRate>[]>;

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string" },
      work: { type: "string" },
      json: { type: "string" },
      "cpu-prof": { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const names = values.only === undefined ? serverNames : values.only.split(",").map(serverName);
  const chosen = values.work === undefined ? works : [workNamed(values.work)];
  checkPrerequisites();
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  const seconds = Number(values.seconds ?? (values.quick ? 2 : 3));
  const directory = mkdtempSync(join(tmpdir(), "bench-dhcp-"));
  const profile = values["cpu-prof"];
  const clear = (): void => rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  // Also after a signal, which ends the process once the LAN has ended the servers.
  process.once("exit", clear);
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
    const report = await measureAll(bench, names, chosen, rounds);
    console.log(
      `\n${machine()}. ${rounds} rounds of ${seconds} s trials. Server and load generator share the cores.\n`,
    );
    console.log(formatReport(report));
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
  } finally {
    process.off("exit", clear);
    clear();
  }
}

async function measureAll(
  bench: Bench,
  names: readonly ServerName[],
  chosen: readonly Work[],
  rounds: number,
): Promise<Report> {
  // What no aim hangs on is measured once, of those that come near it.
  const namesFor = (work: Work) => names.filter((name) => hasAim(work) || name !== "dnsmasq");
  const rates: Rates = { "new clients": new Map(), renewals: new Map(), "returning clients": new Map() };
  for (let round = 0; round < rounds; round++) {
    for (const work of chosen) {
      if (round > 0 && !hasAim(work)) continue;
      for (const name of namesFor(work)) {
        if (round > 0 && name === "dnsmasq") continue; // far from the others; once is enough
        const found = rates[work].get(name) ?? [];
        rates[work].set(name, found);
        found.push(await highest(bench, name, work, found.at(-1)));
        bench.say(`${name}, ${work}: ${found.at(-1)}/s in round ${round + 1}`);
      }
    }
  }
  const costs: Costs = { "new clients": [], renewals: [], "returning clients": [] };
  for (const work of chosen) {
    const own = new Map<ServerName, AtRate>();
    const common = new Map<ServerName, AtRate>();
    for (const name of namesFor(work)) {
      const highestRate = hasAim(work) ? median(rates[work].get(name) ?? []) : 0;
      if (highestRate > 0) own.set(name, await atRate(bench, name, work, Math.floor(0.8 * highestRate)));
      common.set(name, await atRate(bench, name, work, name === "dnsmasq" ? 50 : commonRate));
    }
    costs[work].push(own, common);
  }
  const check = new Map<ServerName, AtRate>();
  const fillings = new Map<ServerName, readonly [Filling, Filling]>();
  const isRenewing = chosen.includes("renewals");
  for (const name of names) {
    if (name === "dnsmasq") continue; // it would take minutes
    if (isRenewing) check.set(name, await byOwnGuests(bench, name, commonRate));
    if (chosen.length < works.length) continue;
    fillings.set(name, [await fill(bench, name, 254, 254), await fill(bench, name, 64_000, 3_000)]);
  }
  const echo = isRenewing ? await highest(bench, "echo", "renewals") : undefined;
  return { rates, costs, check, echo, fillings };
}

function serverName(text: string): ServerName {
  const name = serverNames.find((each) => each === text);
  if (name !== undefined) return name;
  throw new InvalidError(`--only ${text} is not known`, { hint: usage });
}

function workNamed(text: string): Work {
  const work = works.find((each) => each === text);
  if (work !== undefined) return work;
  throw new InvalidError(`--work "${text}" is not one of "${works.join('", "')}"`, { hint: usage });
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
