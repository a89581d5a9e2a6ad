// Runs in the node's namespace: the agent with one store or none. Prints `booted`, and then what it found as JSON.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import { type Footprint, footprintOf } from "./footprint.ts";

export const stores = ["none", "etcd", "redis"] as const;
export type StoreName = (typeof stores)[number];

export interface AgentFigure extends Footprint {
  readonly store: StoreName;
  /** From the start of the process to the first OFFER that a guest sees. */
  readonly offerMs: number;
}

const cli = fileURLToPath(new URL("../../../agent/bin/cocoon-net.js", import.meta.url));
const guestsProgram = fileURLToPath(new URL("./guests.js", import.meta.url));
const deadlineMs = 60_000;
/** Until what was made for the start and the guests has been collected. */
const settleMs = 10_000;

async function measure(store: StoreName, guests: string, seconds: number): Promise<AgentFigure> {
  const directory = mkdtempSync(join(tmpdir(), "bench-agent-"));
  const server = await start(store);
  let daemon: Line | undefined;
  try {
    const url = server === undefined ? [] : ["--store", `${store}://127.0.0.1:${server.port}`];
    const files = ["--state-dir", directory, "--pid-file", join(directory, "pid")];
    const own = [...files, "--cni-conflist", join(directory, "conflist"), ...url];
    const subnet = server ? ["--parent-cidr", "10.78.0.0/16"] : [];
    // Not gke: its metadata server is followed, and where there is none it is asked again and again.
    const node = ["--platform", "volcengine", "--node-name", "n1", "--subnet", "10.78.0.0/24", ...subnet];
    const done = spawnSync(process.execPath, [cli, "adopt", ...node, ...own], { encoding: "utf8" });
    if (done.status !== 0) throw new Error(done.stderr);

    using asking = new Line(["ip", "netns", "exec", guests, process.execPath, guestsProgram, "first"]);
    await asking.says("ready");
    const begun = Date.now();
    const serve = ["daemon", "--lease-file", join(directory, "leases.json"), "--skip-iptables"];
    daemon = new Line([process.execPath, cli, ...serve, "--metrics-addr", "127.0.0.1:9092", ...own]);
    const offered = Number((await asking.says("offer")).split(" ")[1]);
    const command = ["ip", "netns", "exec", guests, process.execPath, guestsProgram, "boot", "6"];
    using booting = new Line(command);
    await booting.says("booted");
    console.log("booted");
    await pause(settleMs);
    return { store, offerMs: offered - begun, ...(await footprintOf(daemon.pid, seconds)) };
  } finally {
    daemon?.[Symbol.dispose]();
    await server?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function start(store: StoreName): Promise<TestServer | undefined> {
  if (store === "none") return undefined;
  return await (store === "etcd" ? startEtcd({}) : startRedis({ appendonly: true }));
}

/** A program by the lines that it prints. */
class Line implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];

  constructor([program = "", ...args]: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream) createInterface({ input: stream }).on("line", (line) => this.#lines.push(line));
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async says(text: string): Promise<string> {
    const until = performance.now() + deadlineMs;
    while (performance.now() < until) {
      const line = this.#lines.find((one) => one.startsWith(text));
      if (line !== undefined) return line;
      if (this.#child.exitCode !== null) break;
      await pause(5);
    }
    throw new Error(`no "${text}": ${this.#lines.slice(-5).join("\n")}`);
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

const [guests = "", name = "", seconds = "10"] = process.argv.slice(2);
if (import.meta.main) {
  const store = stores.find((one) => one === name);
  if (store !== undefined) console.log(JSON.stringify(await measure(store, guests, Number(seconds))));
  await Promise.race([once(process.stdout, "drain"), pause(100)]);
  process.exit();
}
