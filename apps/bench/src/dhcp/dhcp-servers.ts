import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { nodeCommand } from "./guests-process.ts";
import { bridge, gateway, type Lan, leaseSeconds, relayEndpoint, serverEndpoint, subnet } from "./lan.ts";

const run = promisify(execFile);

export type ServerName = "cocoon-net" | "kea" | "dnsmasq" | "echo";
/** Those that are compared. The echo does no work at all: it shows what can be measured. */
export const serverNames: readonly ServerName[] = ["cocoon-net", "kea", "dnsmasq"];

/** A server in the node's namespace, with empty files. */
export interface RunningServer extends AsyncDisposable {
  readonly pid: number;
  /** Processor time so far, in milliseconds. */
  cpuMs(): number;
  /** Resident now and at most, in bytes. */
  memory(): { readonly now: number; readonly peak: number };
}

export interface StartOptions {
  readonly lan: Lan;
  /** Emptied. */
  readonly directory: string;
  /** Addresses from the subnet's third on. */
  readonly poolSize: number;
  /** Flags for Node, for a profile. cocoon-net only. */
  readonly nodeFlags?: readonly string[];
}

const starters: Readonly<Record<ServerName, (options: StartOptions) => Promise<Command>>> = {
  "cocoon-net": cocoonNet,
  kea,
  dnsmasq,
  echo,
};

interface Command {
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts a server and waits until it has the port. */
export async function startServer(name: ServerName, options: StartOptions): Promise<RunningServer> {
  const { lan, directory } = options;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  await lan.clear();
  const { args, env } = await starters[name](options);
  const logPath = join(directory, "log");
  const log = openSync(logPath, "w");
  // `ip netns exec` becomes the program: the child's pid is the server's.
  const child = spawn("ip", ["netns", "exec", lan.node, ...args], {
    stdio: ["ignore", log, log],
    env: { ...process.env, ...env },
  });
  closeSync(log);
  const server = new ServerProcess(child);
  try {
    await server.listening(lan, () => readFileSync(logPath, "utf8").trim().split("\n").at(-1) ?? "");
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

class ServerProcess implements RunningServer {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#exit = once(child, "exit");
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get #isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async listening(lan: Lan, lastWords: () => string): Promise<void> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      const { stdout } = await run("ip", ["netns", "exec", lan.node, "ss", "-Huan", "sport", "=", ":67"]);
      if (stdout.trim() !== "") return;
      if (this.#isOver) throw new Error(`${this.#child.spawnargs[4]} ended: ${lastWords()}`);
      if (performance.now() > deadline)
        throw new Error(`${this.#child.spawnargs[4]} does not serve: ${lastWords()}`);
      await pause(50);
    }
  }

  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) * 10; // USER_HZ is 100 on Linux
  }

  memory(): { readonly now: number; readonly peak: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const kilobytes = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]) * 1024;
    return { now: kilobytes("VmRSS"), peak: kilobytes("VmHWM") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await this.#exit;
    clearTimeout(timer);
  }
}

/**
 * The agent as it runs on a node without a store. Its log is at `warn`, as Kea's is. The generator is a relay that speaks
 * for all its clients: what guards against a single guest that does so is told that it may.
 */
async function cocoonNet({ lan, directory, poolSize, nodeFlags = [] }: StartOptions): Promise<Command> {
  const agent = dirname(fileURLToPath(import.meta.resolve("@cocoon-net/agent/package.json")));
  const program = join(agent, "bin", "cocoon-net.js");
  const files = ["--state-dir", directory, "--pid-file", join(directory, "pid")];
  const conflist = ["--cni-conflist", join(directory, "cni.conflist")];
  const node = ["--platform", "gke", "--node-name", "bench", "--primary-nic", bridge];
  const block = ["--subnet", subnet, "--gateway", gateway, "--pool-size", String(poolSize)];
  const inNode = ["netns", "exec", lan.node, process.execPath];
  await run("ip", [...inNode, program, "adopt", ...node, ...block, ...files, ...conflist]);
  const config = join(directory, "config.yaml");
  const relays = [relayEndpoint.address];
  const [perClient, total] = [1_000, 100_000].map((limit) => ({ perSecond: limit, burst: limit }));
  writeFileSync(config, JSON.stringify({ dhcp: { limits: { relays, perClient, total } } }));
  const leaseFile = ["--lease-file", join(directory, "leases.json")];
  const rest = ["--skip-iptables", "--metrics-addr", "", "--config", config];
  return {
    args: [process.execPath, ...nodeFlags, program, "daemon", ...files, ...leaseFile, ...conflist, ...rest],
    env: { COCOON_NET_LOG_LEVEL: "warn" },
  };
}

async function kea({ directory, poolSize }: StartOptions): Promise<Command> {
  const config = join(directory, "kea.json");
  const settings = {
    Dhcp4: {
      "interfaces-config": { interfaces: [bridge], "dhcp-socket-type": "udp" },
      "lease-database": {
        type: "memfile",
        persist: true,
        name: join(directory, "leases.csv"),
        "lfc-interval": 0,
      },
      "multi-threading": { "enable-multi-threading": true },
      "valid-lifetime": leaseSeconds,
      subnet4: [
        {
          subnet,
          pools: [{ pool: poolRange(poolSize).join("-") }],
          "option-data": [
            { name: "routers", data: gateway },
            { name: "domain-name-servers", data: "8.8.8.8, 1.1.1.1" },
          ],
        },
      ],
      loggers: [{ name: "kea-dhcp4", severity: "WARN", output_options: [{ output: "stderr" }] }],
    },
  };
  writeFileSync(config, JSON.stringify(settings));
  return {
    args: ["kea-dhcp4", "-c", config],
    env: { KEA_PIDFILE_DIR: directory, KEA_LOCKFILE_DIR: directory },
  };
}

async function dnsmasq({ directory, poolSize }: StartOptions): Promise<Command> {
  return {
    args: [
      "dnsmasq",
      "--keep-in-foreground",
      "--conf-file=/dev/null",
      "--port=0",
      "--user=root",
      `--interface=${bridge}`,
      "--bind-interfaces",
      `--dhcp-range=${poolRange(poolSize).join(",")},255.255.0.0,${leaseSeconds}`,
      `--dhcp-leasefile=${join(directory, "dnsmasq.leases")}`,
      "--dhcp-lease-max=65536",
      "--dhcp-authoritative",
      "--no-ping",
      "--quiet-dhcp",
      `--pid-file=${join(directory, "pid")}`,
      "--log-facility=/dev/null",
    ],
  };
}

async function echo(): Promise<Command> {
  const options = { server: serverEndpoint, relay: relayEndpoint, firstAddress: "10.77.0.2", leaseSeconds };
  return { args: nodeCommand("echo-server", JSON.stringify(options)) };
}

/** First and last address, beginning at .2. */
function poolRange(size: number): [string, string] {
  const last = size + 1;
  return ["10.77.0.2", `10.77.${last >> 8}.${last & 255}`];
}
