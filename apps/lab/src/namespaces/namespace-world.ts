import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore } from "@cocoon-net/agent";
import { DisposeStack, decode, keys, leaseSchema, parseAddress, pause, type Store } from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import type { StoreKind } from "../access.ts";
import type { LogTail, VirtualMachine, World } from "../world.ts";
import { plugIn } from "./bridge-port.ts";
import { writeEnterScript } from "./enter-script.ts";
import { apiPort, Fabric, fabricAddress } from "./fabric.ts";
import { command, ip, ipBatch } from "./ip-command.ts";
import { ProcessTalk } from "./process-talk.ts";
import { LabProcess } from "./processes.ts";

export interface NamespaceWorldOptions {
  /** Every namespace's name starts with it. */
  readonly prefix: string;
  /** Logs and state go below it. */
  readonly directory: string;
  readonly store: StoreKind;
  /** In front of a command of another terminal that shall see the namespaces. */
  readonly enter: string;
  /** Ends every wait. */
  readonly signal: AbortSignal;
}

/** Short enough to watch, long enough for a machine that is busy with something else. */
const times = {
  sessionTtl: "5s",
  leaderTtl: "5s",
  suspectAfter: "6s",
  reclaimAfter: "2s",
  lookAgainAfter: "1s",
  quarantine: "5s",
} as const;

const cli = fileURLToPath(import.meta.resolve("@cocoon-net/agent/package.json")).replace(
  /package\.json$/,
  "bin/cocoon-net.js",
);
/** Of this package's modules, as they run. */
const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const udhcpcScript = fileURLToPath(new URL("../../assets/udhcpc.sh", import.meta.url));

interface Node {
  readonly instanceID: string;
  readonly namespace: string;
  readonly directory: string;
  readonly daemon: LabProcess;
}

/** Real processes: this process runs in the fabric's namespace; each node and each VM has one of its own. */
export class NamespaceWorld implements World {
  readonly patience = 60;
  readonly isEmbedded = false;
  readonly description: string;
  readonly store: Store;
  readonly #options: NamespaceWorldOptions;
  readonly #fabric: Fabric;
  readonly #server: TestServer;
  readonly #parts: DisposeStack;
  readonly #processes: LabProcess[] = [];
  readonly #nodes = new Map<string, Node>();
  readonly #machines = new Map<string, VirtualMachine>();
  readonly #taps = new Map<string, string>();
  readonly #storeUrl: string;
  #booted = { nodes: 0, machines: 0 };

  private constructor(
    options: NamespaceWorldOptions,
    fabric: Fabric,
    server: TestServer,
    store: Store,
    storeUrl: string,
    parts: DisposeStack,
  ) {
    this.#options = options;
    this.#fabric = fabric;
    this.#server = server;
    this.#parts = parts;
    this.#storeUrl = storeUrl;
    this.store = store;
    this.description = `the VPC and ${store.capabilities.server} are up: ${storeUrl}`;
  }

  static header(store: StoreKind, directory: string): [string, string][] {
    return [
      ["", "cocoon-net lab: a cluster on this machine, in about half a minute"],
      [
        "real",
        `${store}, two controllers, the agents' init and daemon, udhcpc in each VM, the kernel's routes; ` +
          "nodes and VMs are network namespaces",
      ],
      ["simulated", "the cloud's API and metadata service; a fabric of routes follows what they say"],
      [
        "story",
        "nodes join, VMs get addresses and talk, a node dies, its block comes back and is used again",
      ],
      ["logs", `${directory}/logs`],
    ];
  }

  static async start(options: NamespaceWorldOptions): Promise<NamespaceWorld> {
    await using parts = new DisposeStack();
    const { directory, prefix, enter, signal } = options;
    const dataDir = join(directory, options.store);
    for (const path of [join(directory, "logs"), dataDir]) await mkdir(path, { recursive: true });
    await writeEnterScript({ path: join(directory, "enter"), enter, prefix, cli });
    const fabric = parts.use(await Fabric.start());
    const server = parts.use(
      options.store === "etcd"
        ? await startEtcd({ host: fabricAddress, dataDir })
        : await startRedis({ host: fabricAddress, dataDir, appendonly: true }),
    );
    signal.throwIfAborted();
    const storeUrl = `${options.store}://${server.host}:${server.port}`;
    const args = ["--store", storeUrl, "--parent-cidr", "172.20.0.0/16", "--quarantine", times.quarantine];
    await command(process.execPath, [cli, "cluster", "init", ...args]);
    const store = parts.use(await openStore(storeUrl, { signal }));
    return new NamespaceWorld(options, fabric, server, store, storeUrl, parts.move());
  }

  get nodes(): readonly string[] {
    return [...this.#nodes.keys()];
  }

  get machines(): ReadonlyMap<string, VirtualMachine> {
    return this.#machines;
  }

  async addNode(name: string): Promise<void> {
    if (this.#nodes.has(name)) throw new Error(`there was a node ${name} already; take another name`);
    const number = ++this.#booted.nodes;
    const instanceID = `i-${name}`;
    const namespace = this.#namespaceOf(name);
    const directory = join(this.#options.directory, name);
    await mkdir(directory, { recursive: true });
    await ip("netns", "add", namespace);
    await this.#fabric.addInstance(instanceID, namespace, number);
    const node = { instanceID, namespace, directory };
    await this.#init(name, node);
    await this.#daemon(name, node);
  }

  async #init(name: string, { namespace, directory }: Omit<Node, "daemon">): Promise<void> {
    const init = this.#run(`${name}-init`, namespace, [
      ...["init", "--platform", "volcengine", "--node-name", name, "--pool-size", "40"],
      ...this.#flagsOf(directory),
    ]);
    await this.#until(`init of ${name}`, async () => init.ended !== undefined).catch(
      async (cause: unknown) => {
        throw new Error(`${String(cause)}; it said: ${(await init.tail(5)).join(" / ")}`, { cause });
      },
    );
    if (init.failed) throw new Error(`init of ${name} ended with ${init.ended}`);
  }

  /** Resolves when the node is alive in the store. */
  async #daemon(name: string, { instanceID, namespace, directory }: Omit<Node, "daemon">): Promise<void> {
    const before = (await this.store.get(keys.alive(name))).entry?.modRevision;
    const daemon = this.#run(`${name}-daemon`, namespace, [
      ...["daemon", "--lease-file", join(directory, "leases.json"), "--metrics-addr", "127.0.0.1:9092"],
      ...["--session-ttl", times.sessionTtl],
      ...this.#flagsOf(directory),
    ]);
    this.#nodes.set(name, { instanceID, namespace, directory, daemon });
    await this.#until(`${name} to be alive in the store`, async () => {
      if (daemon.ended !== undefined) throw new Error(`daemon of ${name} ended with ${daemon.ended}`);
      const { entry } = await this.store.get(keys.alive(name));
      return entry !== undefined && entry.modRevision !== before;
    });
  }

  #flagsOf(directory: string): string[] {
    return [
      ...["--state-dir", directory, "--cni-conflist", join(directory, "30-cocoon-dhcp.conflist")],
      ...["--store", this.#storeUrl, "--pid-file", join(directory, "daemon.pid")],
    ];
  }

  async addVirtualMachine(node: string, name: string): Promise<VirtualMachine> {
    const host = this.#node(node);
    const number = ++this.#booted.machines;
    const namespace = this.#namespaceOf(name);
    const mac = `52:54:00:00:00:${hex(number)}`;
    const tap = `tap${number}`;
    await ip("netns", "add", namespace);
    await ipBatch(
      [`link add ${tap} type veth peer name eth0 address ${mac} netns ${namespace}`, ...plugIn(tap)],
      { netns: host.namespace },
    );
    this.#taps.set(name, tap);
    await ipBatch(["link set lo up", "link set eth0 up"], { netns: namespace });
    const client = this.#start(`${name}-udhcpc`, [
      ...["ip", "netns", "exec", namespace],
      ...["udhcpc", "-f", "-i", "eth0", "-s", udhcpcScript, "-x", `hostname:${name}`],
      ...["-t", "30", "-T", "1", "-A", "1"],
    ]);
    let address: string | undefined;
    await this.#until(`${name} to get an address`, async () => {
      if (client.ended !== undefined) throw new Error(`udhcpc of ${name} ended with ${client.ended}`);
      const links = JSON.parse(await ip("-n", namespace, "-j", "-4", "address", "show", "dev", "eth0")) as {
        addr_info?: { local?: string }[];
      }[];
      address = links[0]?.addr_info?.[0]?.local;
      return address !== undefined;
    });
    const machine = { name, node, mac, address: address ?? "" };
    this.#machines.set(name, machine);
    return machine;
  }

  async leasesFile(node: string): Promise<{ mac: string; ip: string }[]> {
    const text = await readFile(join(this.#node(node).directory, "leases.json"), "utf8").catch(() => "[]");
    return JSON.parse(text) as { mac: string; ip: string }[];
  }

  async ping(from: VirtualMachine, address: string): Promise<boolean> {
    parseAddress(address);
    await this.#fabric.settled();
    const args = ["netns", "exec", this.#namespaceOf(from.name), "ping", "-n", "-c", "1", "-W", "1", address];
    return command("ip", args).then(
      () => true,
      () => false,
    );
  }

  async crash(node: string): Promise<void> {
    const { daemon, instanceID } = this.#node(node);
    await daemon.kill();
    this.#fabric.simulator.stopInstance(instanceID);
  }

  async migrate(address: string, to: string, whenMoved: () => Promise<void>): Promise<void> {
    // Not one of the lab's processes: it may fail.
    const args = ["cluster", "migrate", "--store", this.#storeUrl, "--ip", address, "--to", to, "--wait"];
    let failure: unknown;
    let over = false;
    const running = command(process.execPath, [cli, ...args], 60_000).then(
      () => undefined,
      (error: unknown) => {
        failure = error;
      },
    );
    void running.then(() => {
      over = true;
    });
    await this.#until(`${to} to have ${address}`, async () => {
      if (over) return true;
      const { entry } = await this.store.get(keys.pool(address));
      return entry !== undefined && decode(leaseSchema, entry).node === to;
    });
    if (failure === undefined) await whenMoved();
    await this.#until(`the move of ${address} to ${to} to end`, async () => over);
    if (failure !== undefined) throw failure;
  }

  async replug(name: string, node: string): Promise<void> {
    const machine = this.#machines.get(name);
    const tap = this.#taps.get(name);
    if (!machine || tap === undefined) throw new Error(`there is no VM ${name}`);
    const [from, to] = [this.#node(machine.node).namespace, this.#node(node).namespace];
    await ip("-n", from, "link", "set", tap, "netns", to);
    await ipBatch(plugIn(tap), { netns: to });
    this.#machines.set(name, { ...machine, node });
  }

  async talk(from: VirtualMachine, to: VirtualMachine): Promise<ProcessTalk> {
    const script = fileURLToPath(new URL("./talk-program.ts", import.meta.url)).replace(/\.ts$/, extension);
    const run = (name: string, machine: VirtualMachine, ...args: string[]): LabProcess => {
      const namespace = this.#namespaceOf(machine.name);
      return this.#start(name, ["ip", "netns", "exec", namespace, process.execPath, script, ...args]);
    };
    const listener = run(`${to.name}-listens`, to, "listen");
    await this.#until(`${to.name} to listen`, async () => (await listener.tail(1)).includes("listening"));
    const speaker = run(`${from.name}-speaks`, from, to.address);
    return new ProcessTalk(speaker, listener);
  }

  async silence(node: string): Promise<void> {
    await this.#node(node).daemon.kill();
  }

  async restart(name: string): Promise<void> {
    const node = this.#node(name);
    this.#fabric.simulator.startInstance(node.instanceID);
    await this.#daemon(name, node);
  }

  async reboot(name: string): Promise<void> {
    const node = this.#node(name);
    this.#fabric.simulator.startInstance(node.instanceID);
    await this.#init(name, node);
    await this.#daemon(name, node);
  }

  async addController(name: string): Promise<void> {
    this.#start(name, [
      ...[process.execPath, cli, "controller", "--store", this.#storeUrl, "--id", name],
      ...["--leader-ttl", times.leaderTtl, "--suspect-after", times.suspectAfter],
      ...["--reclaim-after", times.reclaimAfter, "--look-again-after", times.lookAgainAfter],
    ]);
  }

  lookInside(): readonly string[] {
    // Whoever became root by sudo has a terminal that is not.
    const sudo = process.env.SUDO_USER !== undefined && this.#options.enter === "" ? "sudo " : "";
    const enter = `${sudo}sh ${this.#options.directory}/enter`;
    return [
      `${enter} fabric cocoon-net cluster nodes --store ${this.#storeUrl}`,
      `${enter} fabric cocoon-net cluster leases --store ${this.#storeUrl}`,
      `${enter} n1 ip route`,
      `${enter} n1-vm1 ping ${this.#machines.get("n3-vm1")?.address ?? fabricAddress}`,
    ];
  }

  ended(): readonly string[] {
    const server = this.#server.pid === undefined ? [`${this.#options.store} has ended`] : [];
    const failed = this.#processes.filter((item) => item.failed);
    return [...server, ...failed.map((item) => `${item.name} has ended: ${item.ended}`)];
  }

  /** Of those that ended; only if all run, of those that complain. */
  async logs(): Promise<LogTail[]> {
    const tails: LogTail[] = [];
    if (this.#server.pid === undefined) {
      tails.push({
        title: `${this.#options.store} has ended`,
        lines: this.#server.output.trimEnd().split("\n").slice(-5),
      });
    }
    for (const item of this.#processes) {
      if (item.failed) tails.push({ title: `${item.name}: ${item.ended}`, lines: await item.tail(8) });
    }
    if (tails.length > 0) return tails;
    for (const item of [...this.#processes].reverse()) {
      const lines = await item.warnings(5);
      if (lines.length > 0) tails.push({ title: item.name, lines });
    }
    return tails.slice(0, 5);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((item) => item[Symbol.asyncDispose]()));
    await this.#parts[Symbol.asyncDispose]();
  }

  #node(name: string): Node {
    const node = this.#nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}: ${[...this.#nodes.keys()].join(", ")}`);
    return node;
  }

  #namespaceOf(name: string): string {
    return `${this.#options.prefix}-${name}`;
  }

  #run(name: string, namespace: string, args: readonly string[]): LabProcess {
    return this.#start(name, ["ip", "netns", "exec", namespace, process.execPath, cli, ...args]);
  }

  #start(name: string, argv: readonly string[]): LabProcess {
    const logPath = join(this.#options.directory, "logs", `${name}.log`);
    const env = {
      ...process.env,
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: this.#fabric.simulator.region,
      COCOON_NET_VOLCENGINE_ENDPOINT: `http://${fabricAddress}:${apiPort}`,
      NO_PROXY: "*",
      // Ten processes load the same modules.
      NODE_COMPILE_CACHE: join(this.#options.directory, "compile-cache"),
    };
    const item = new LabProcess({ name, logPath, argv, env });
    this.#processes.push(item);
    return item;
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + this.patience * 1_000;
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`not within ${this.patience} s: ${what}`);
      await pause(50, this.#options.signal);
    }
    await this.#fabric.settled();
  }
}

function hex(number: number): string {
  return number.toString(16).padStart(2, "0");
}
