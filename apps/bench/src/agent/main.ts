import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidError } from "@cocoon-net/core";
import { benchCommand } from "../bench-command.ts";
import type { AgentFigure } from "./worker.ts";

const usage = "npm run bench:agent -- [--quick] [--store none,etcd,redis] [--rounds N] [--json FILE]";
const aims = {
  residentMB: { none: 75, etcd: 100, redis: 100 },
  offerMs: 500,
  /** Per second. Beyond what is least each question leaves a deadline in the kernel; a few are V8's. */
  wakeUps: { none: 0.2, etcd: 1.5, redis: 1 },
} as const;
/**
 * How often in a minute an idle node has to ask its store. Of etcd, each 5.2 s whether the connection lives, and each 15 s
 * for the session, together with whether the watches live, the subnet is its own, and the member has a leader. Of Redis, each
 * 5 s up to where it has been told of changes; the session and the subnet go with that.
 */
const questions = { none: 0, etcd: 60 / 5.2 + 4, redis: 12 } as const;
/** Per second: one to ask, one to hear the answer, which of a server as near as here often is there at once. */
const leastWakeUps = (store: AgentFigure["store"]): number => (2 * questions[store]) / 60;

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      store: { type: "string", default: "none,etcd,redis" },
      rounds: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  if (process.getuid?.() !== 0) throw new InvalidError("network namespaces are needed: run as root");
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  const figures: AgentFigure[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const found of await measureAll(values.store.split(","), values.quick ? 3 : 60)) {
      console.error(`${found.store}: ${row(found).join("  ")}`);
      figures.push(found);
    }
  }
  console.log(table(figures));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures, undefined, 2)}\n`);
}

/** They are started one after another, and then idle at the same time. */
async function measureAll(stores: readonly string[], seconds: number): Promise<AgentFigure[]> {
  const measuring: Promise<AgentFigure>[] = [];
  for (const store of stores) {
    const booted = Promise.withResolvers<void>();
    const found = inNamespaces(store, seconds, booted.resolve);
    measuring.push(found);
    await Promise.race([booted.promise, found.catch(() => undefined)]);
  }
  const results = await Promise.allSettled(measuring);
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/** A node and its guests, in two namespaces on one cable. */
async function inNamespaces(store: string, seconds: number, onBooted: () => void): Promise<AgentFigure> {
  const suffix = randomBytes(3).toString("hex");
  const [node, guests] = [`bench-n-${suffix}`, `bench-g-${suffix}`];
  const ip = (...args: string[]): unknown =>
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
  try {
    for (const name of [node, guests]) {
      ip("netns", "add", name);
      ip("-n", name, "link", "set", "lo", "up");
    }
    ip("-n", node, "link", "add", "cni0", "type", "bridge");
    ip("-n", node, "link", "set", "cni0", "up");
    ip("-n", node, "link", "add", "port0", "type", "veth", "peer", "name", "eth0", "netns", guests);
    ip("-n", node, "link", "set", "port0", "master", "cni0", "up");
    ip("-n", guests, "address", "add", "10.78.255.1/16", "dev", "eth0");
    ip("-n", guests, "link", "set", "eth0", "up");
    ip("-n", guests, "route", "add", "default", "dev", "eth0");
    const worker = fileURLToPath(new URL("./worker.js", import.meta.url));
    const child = spawn(
      "ip",
      ["netns", "exec", node, process.execPath, worker, guests, store, String(seconds)],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    for await (const line of createInterface({ input: child.stdout })) {
      if (line !== "booted") return JSON.parse(line) as AgentFigure;
      onBooted();
    }
    throw new InvalidError(`nothing was measured for "${store}"; none, etcd and redis can be`);
  } finally {
    for (const name of [node, guests]) ip("netns", "del", name);
  }
}

function row(figure: AgentFigure): string[] {
  return [
    `${figure.residentMB.toFixed(0)} MB resident (≤ ${aims.residentMB[figure.store]})`,
    `${figure.ownMB.toFixed(0)} MB of its own`,
    `${figure.offerMs} ms to the first OFFER (≤ ${aims.offerMs})`,
    `${figure.wakeUps.toFixed(2)} wake-ups/s (least ${leastWakeUps(figure.store).toFixed(1)})`,
    `${figure.cpu.toFixed(2)} % CPU`,
  ];
}

/** Medians over the rounds. */
function table(figures: readonly AgentFigure[]): string {
  const lines = [
    "| store | resident | its own | first OFFER | wake-ups | at least | CPU when idle |",
    "| ----- | -------- | ------- | ----------- | -------- | -------- | ------------- |",
  ];
  for (const store of new Set(figures.map((figure) => figure.store))) {
    const own = figures.filter((figure) => figure.store === store);
    const median = (of: (figure: AgentFigure) => number): number =>
      own.map(of).sort((one, other) => one - other)[Math.floor(own.length / 2)] ?? 0;
    const cells = [
      `${median((one) => one.residentMB).toFixed(0)} MB (aim ${aims.residentMB[store]})`,
      `${median((one) => one.ownMB).toFixed(0)} MB`,
      `${median((one) => one.offerMs).toFixed(0)} ms (aim ${aims.offerMs})`,
      `${median((one) => one.wakeUps).toFixed(2)}/s (aim ${aims.wakeUps[store]})`,
      `${leastWakeUps(store).toFixed(1)}/s`,
      `${median((one) => one.cpu).toFixed(2)} %`,
    ];
    lines.push(`| ${store} | ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}
