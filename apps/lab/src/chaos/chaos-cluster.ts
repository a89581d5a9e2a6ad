import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore } from "@cocoon-net/agent";
import {
  DisposeStack,
  describeError,
  formatAddress,
  keys,
  parseAddress,
  pause,
  type Store,
} from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import type { StoreKind } from "../access.ts";
import { plugIn } from "../namespaces/bridge-port.ts";
import { apiPort, Fabric, fabricAddress } from "../namespaces/fabric.ts";
import { command, ip, ipBatch } from "../namespaces/ip-command.ts";
import { CloudPace } from "./cloud-pace.ts";
import { type ChaosGuest, type ChaosNode, type Cut, type Machine, setCut } from "./machine.ts";
import { SupervisedProcess } from "./supervised-process.ts";

export interface ChaosClusterOptions {
  /** Every namespace's name starts with it. */
  readonly prefix: string;
  /** Logs and state go below it. */
  readonly directory: string;
  readonly store: StoreKind;
  readonly signal: AbortSignal;
  readonly onEnded: (name: string, how: string) => void;
}

/** Short against the length of a run; leases outlast most disturbances, and not all. */
const times = {
  lease: "24s",
  sessionTtl: "5s",
  leaderTtl: "5s",
  suspectAfter: "2s",
  reclaimAfter: "2s",
  lookAgainAfter: "1s",
  quarantine: "5s",
} as const;

/** A reclaim waits for a minute whenever the store may have lost writes. */
const patienceMs = 240_000;

const cli = fileURLToPath(import.meta.resolve("@cocoon-net/agent/package.json")).replace(
  /package\.json$/,
  "bin/cocoon-net.js",
);
const asset = (name: string): string => fileURLToPath(new URL(`../../assets/${name}`, import.meta.url));

/** Real processes in network namespaces; this process runs in the fabric's. Primitives only: what is done when is not decided here. */
export class ChaosCluster implements AsyncDisposable {
  readonly store: Store;
  readonly server: TestServer;
  readonly fabric: Fabric;
  readonly cloudPace: CloudPace;
  readonly controllers: Machine[] = [];
  readonly nodes: ChaosNode[] = [];
  readonly #options: ChaosClusterOptions;
  readonly #parts: DisposeStack;
  readonly #processes: SupervisedProcess[] = [];
  readonly #cutOff = new Set<string>();
  /** By machine, the least that its clock has been set to. */
  readonly #slowest = new Map<string, number>();
  #macs = 0;
  #ports = 0;

  private constructor(
    options: ChaosClusterOptions,
    cloudPace: CloudPace,
    fabric: Fabric,
    server: TestServer,
    store: Store,
    parts: DisposeStack,
  ) {
    this.#options = options;
    this.cloudPace = cloudPace;
    this.#parts = parts;
    this.fabric = fabric;
    this.server = server;
    this.store = store;
  }

  static async start(options: ChaosClusterOptions): Promise<ChaosCluster> {
    await using parts = new DisposeStack();
    const { directory, signal } = options;
    const dataDir = join(directory, options.store);
    for (const path of [join(directory, "logs"), dataDir]) await mkdir(path, { recursive: true });
    const pace = new CloudPace();
    const fabric = parts.use(await Fabric.start(pace));
    const server = parts.use(
      options.store === "etcd"
        ? await startEtcd({ host: fabricAddress, dataDir })
        : await startRedis({ host: fabricAddress, dataDir, appendonly: true, appendfsync: "always" }),
    );
    const url = `${options.store}://${server.host}:${server.port}`;
    const init = [
      ...[cli, "cluster", "init", "--store", url, "--parent-cidr", "172.20.0.0/16"],
      ...[
        "--lease-time",
        times.lease,
        "--quarantine",
        times.quarantine,
        "--reclaim-after",
        times.reclaimAfter,
      ],
    ];
    await untilDone(signal, () => command(process.execPath, init));
    const store = parts.use(await untilDone(signal, () => openStore(url, { signal })));
    return new ChaosCluster(options, pace, fabric, server, store, parts.move());
  }

  async addController(name: string): Promise<void> {
    const namespace = await this.#newNamespace(name);
    const number = ++this.#ports;
    const port = `c-${number}`;
    const address = formatAddress(parseAddress(fabricAddress) + 200 + number);
    await ipBatch([
      `link add ${port} type veth peer name eth0 netns ${namespace}`,
      `link set ${port} master vpc0`,
      `link set ${port} up`,
    ]);
    await ipBatch(["link set lo up", `address add ${address}/20 dev eth0`, "link set eth0 up"], {
      netns: namespace,
    });
    const machine = this.#machine({ name, namespace, port, address }, [
      ...["controller", "--store", this.#url, "--id", name, "--leader-ttl", times.leaderTtl],
      ...["--suspect-after", times.suspectAfter, "--look-again-after", times.lookAgainAfter],
    ]);
    this.controllers.push(machine);
    machine.process.start();
  }

  /** Boots an instance, sets it up and starts its agent, and its guests when it is alive in the store. */
  async addNode(name: string, guests: number): Promise<ChaosNode> {
    const namespace = await this.#newNamespace(name);
    const number = ++this.#ports;
    const instanceID = `i-${name}`;
    const directory = join(this.#options.directory, name);
    await mkdir(directory, { recursive: true });
    const address = await this.fabric.addInstance(instanceID, namespace, number);
    const machine = this.#machine({ name, namespace, port: `p-${number}`, address }, [
      ...["daemon", "--lease-file", join(directory, "leases.json"), "--metrics-addr", ""],
      ...["--session-ttl", times.sessionTtl, ...this.#files(directory)],
    ]);
    const node: ChaosNode = { ...machine, instanceID, directory, guests: [] };
    await this.setUp(node);
    this.nodes.push(node);
    for (let index = 1; index <= guests; index++) await this.#addGuest(node, `${name}-g${index}`);
    return node;
  }

  /** `init`, as long as it does not succeed, then the daemon. */
  async setUp(node: ChaosNode): Promise<void> {
    const { name, namespace, directory } = node;
    const args = ["init", "--platform", "volcengine", "--node-name", name, "--pool-size", "20"];
    const line = [process.execPath, cli, ...args, ...this.#files(directory)];
    const env = Object.entries(this.#env).map(([key, value]) => `${key}=${value}`);
    await untilDone(this.#options.signal, () =>
      command("ip", ["netns", "exec", namespace, "env", ...env, ...line], 60_000),
    );
    await this.fabric.settled();
    node.process.start();
    await this.#until(
      `${name} to be alive`,
      async () => (await this.store.get(keys.alive(name))).entry !== undefined,
    );
  }

  /** With another MAC when it is another VM; one that is still the same keeps its own. */
  async bootGuest(guest: ChaosGuest, another: boolean): Promise<void> {
    if (another) {
      this.#macs += 1;
      guest.mac = `52:54:00:00:${hex(this.#macs >> 8)}:${hex(this.#macs & 255)}`;
      await ipBatch(["link set eth0 down", `link set eth0 address ${guest.mac}`, "link set eth0 up"], {
        netns: guest.namespace,
      });
    }
    guest.client = this.#supervised(
      `${guest.name}-udhcpc`,
      [
        ...["ip", "netns", "exec", guest.namespace, "udhcpc", "-f", "-R", "-i", "eth0"],
        ...["-s", asset("chaos-udhcpc.sh"), "-t", "30", "-T", "1", "-A", "1"],
      ],
      { CHAOS_GUEST: guest.name, CHAOS_MAC: guest.mac, CHAOS_LOG: guest.logPath },
    );
    guest.client.start();
  }

  /** SIGTERM gives the lease back, SIGKILL does not. */
  async endGuest(guest: ChaosGuest, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await guest.client?.kill(signal);
    guest.client = undefined;
    await ip("-n", guest.namespace, "address", "flush", "dev", "eth0");
  }

  isCutOff({ name }: Machine): boolean {
    return this.#cutOff.has(name);
  }

  async cut(machine: Machine, cut: Cut): Promise<void> {
    this.#cutOff.add(machine.name);
    machine.process.touch();
    await setCut(machine, cut, true);
  }

  async mend(machine: Machine, cut: Cut): Promise<void> {
    await setCut(machine, cut, false);
    machine.process.touch();
    this.#cutOff.delete(machine.name);
  }

  /** Plugs a running guest into another node, as a live migration does. */
  async replug(guest: ChaosGuest, to: ChaosNode): Promise<void> {
    const from = this.nodes.find(({ guests }) => guests.includes(guest));
    if (!from || from === to) return;
    await ip("-n", from.namespace, "link", "set", guest.tap, "netns", to.namespace);
    await ipBatch(plugIn(guest.tap), { netns: to.namespace });
    from.guests.splice(from.guests.indexOf(guest), 1);
    to.guests.push(guest);
  }

  /** Whether the guest's address answers in the VPC. */
  async answers(address: string): Promise<boolean> {
    return command("ping", ["-n", "-c", "1", "-W", "1", address]).then(
      () => true,
      () => false,
    );
  }

  /** What `cluster check` finds; empty when nothing. */
  async check(): Promise<string> {
    const args = [cli, "cluster", "check", "--store", this.#url, "-o", "json"];
    const env = Object.entries(this.#env).map(([key, value]) => `${key}=${value}`);
    return command("env", [...env, process.execPath, ...args]).then(
      () => "",
      (error: unknown) => describeError(error),
    );
  }

  /** From the true time. */
  async setClock({ name, clockPath }: Machine, ms: number): Promise<void> {
    this.#slowest.set(name, Math.min(ms, this.#slowest.get(name) ?? 0));
    await writeFile(clockPath, String(ms));
  }

  /** Further back than it has ever been: what has run there before has left nothing that has ended by it. */
  async setClockBack(machine: Machine, ms: number): Promise<void> {
    await this.setClock(machine, (this.#slowest.get(machine.name) ?? 0) - ms);
  }

  /** Its kernel, with everything in it, goes away; the cloud says that the instance is stopped. @returns its guests */
  async crash(node: ChaosNode): Promise<ChaosGuest[]> {
    const lost = [...node.guests];
    // What was to become of them does not become of those that are booted in their places.
    for (const guest of lost) guest.mac = "";
    await Promise.all([node.process.kill(), ...lost.map((guest) => this.endGuest(guest, "SIGKILL"))]);
    this.fabric.simulator.stopInstance(node.instanceID);
    return lost;
  }

  /** The instance is started, once it has stopped: a slow cloud takes a while. */
  async boot({ instanceID }: ChaosNode): Promise<void> {
    await this.#until(`${instanceID} to be started`, async () => {
      this.fabric.simulator.startInstance(instanceID);
      return true;
    });
  }

  /** Once the node's block is really taken; its guests have left. */
  async rejoin(node: ChaosNode): Promise<void> {
    await this.#until(
      `the block of ${node.name} to be taken`,
      async () => (await this.store.get(keys.subnet(node.name))).entry === undefined,
    );
    await node.process.kill("SIGTERM");
    await this.setUp(node);
  }

  async leasesFile({ directory }: ChaosNode): Promise<{ mac: string; ip: string }[]> {
    const text = await readFile(join(directory, "leases.json"), "utf8").catch(() => "[]");
    return JSON.parse(text) as { mac: string; ip: string }[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((item) => item[Symbol.asyncDispose]()));
    await this.#parts[Symbol.asyncDispose]();
  }

  async #addGuest(node: ChaosNode, name: string): Promise<void> {
    const namespace = await this.#newNamespace(name);
    const tap = `t-${name}`;
    await ipBatch([`link add ${tap} type veth peer name eth0 netns ${namespace}`, ...plugIn(tap)], {
      netns: node.namespace,
    });
    await ipBatch(["link set lo up"], { netns: namespace });
    const logPath = join(this.#options.directory, "logs", `${name}.said`);
    const guest: ChaosGuest = { name, tap, namespace, logPath, mac: "", client: undefined };
    node.guests.push(guest);
    await this.bootGuest(guest, true);
  }

  #machine(where: Omit<Machine, "clockPath" | "process">, args: readonly string[]): Machine {
    const { name, namespace } = where;
    const clockPath = join(this.#options.directory, `${name}.clock`);
    const argv = ["ip", "netns", "exec", namespace, process.execPath, cli, ...args];
    const process_ = this.#supervised(name, argv, {
      CHAOS_CLOCK: clockPath,
      NODE_OPTIONS: `--import=${asset("stepped-clock.mjs")}`,
    });
    return { ...where, clockPath, process: process_ };
  }

  #supervised(name: string, argv: readonly string[], env: NodeJS.ProcessEnv): SupervisedProcess {
    const { directory, onEnded } = this.#options;
    const logPath = join(directory, "logs", `${name}.log`);
    const made = new SupervisedProcess({
      ...{ name, logPath, argv, onEnded },
      env: { ...process.env, ...this.#env, ...env },
    });
    this.#processes.push(made);
    return made;
  }

  async #newNamespace(name: string): Promise<string> {
    const namespace = `${this.#options.prefix}-${name}`;
    await ip("netns", "add", namespace);
    return namespace;
  }

  #files(directory: string): string[] {
    return [
      ...["--state-dir", directory, "--cni-conflist", join(directory, "30-cocoon-dhcp.conflist")],
      ...["--store", this.#url, "--pid-file", join(directory, "daemon.pid")],
    ];
  }

  get #url(): string {
    return `${this.#options.store}://${this.server.host}:${this.server.port}`;
  }

  get #env(): Record<string, string> {
    return {
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: this.fabric.simulator.region,
      COCOON_NET_VOLCENGINE_ENDPOINT: `http://${fabricAddress}:${apiPort}`,
      NO_PROXY: "*",
      NODE_COMPILE_CACHE: join(this.#options.directory, "compile-cache"),
    };
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + patienceMs;
    while (!(await condition().catch(() => false))) {
      if (performance.now() > deadline) throw new Error(`not within ${patienceMs / 1_000} s: ${what}`);
      await pause(100, this.#options.signal);
    }
  }
}

/** Again and again, as a service manager does. @throws the last failure, when it is too late */
async function untilDone<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await pause(1_000, signal);
    }
  }
}

function hex(number: number): string {
  return number.toString(16).padStart(2, "0");
}
