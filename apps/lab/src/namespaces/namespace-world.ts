import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore } from "@cocoon-net/agent";
import { keys, parseAddress, pause, type Store } from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import type { VirtualMachine, World } from "../world.ts";
import { apiPort, Fabric, fabricAddress } from "./fabric.ts";
import { command, ip, ipBatch } from "./ip-command.ts";
import { LabProcess } from "./processes.ts";

export interface NamespaceWorldOptions {
  /** Every namespace's name starts with it. */
  readonly prefix: string;
  /** Logs and state go below it. */
  readonly directory: string;
  readonly store: "etcd" | "redis";
  /** The cluster's times, short enough to watch. */
  readonly sessionTtl: string;
  readonly quarantine: string;
  /** In front of a command line that shall run inside the fabric's namespace from another terminal. */
  readonly enter: string;
}

const cli = fileURLToPath(import.meta.resolve("@cocoon-net/agent/package.json")).replace(
  /package\.json$/,
  "bin/cocoon-net.js",
);
const udhcpcScript = fileURLToPath(new URL("../../assets/udhcpc.sh", import.meta.url));

interface Node {
  readonly instanceID: string;
  readonly namespace: string;
  readonly directory: string;
  readonly daemon: LabProcess;
  readonly number: number;
}

/** Real processes: this process runs in the fabric's namespace; each node and each VM has one of its own. */
export class NamespaceWorld implements World {
  readonly patience = 30;
  readonly description: string;
  readonly store: Store;
  readonly #options: NamespaceWorldOptions;
  readonly #fabric: Fabric;
  readonly #parts: AsyncDisposableStack;
  readonly #processes: LabProcess[] = [];
  readonly #nodes = new Map<string, Node>();
  readonly #storeUrl: string;
  #machines = 0;

  private constructor(
    options: NamespaceWorldOptions,
    fabric: Fabric,
    server: TestServer,
    store: Store,
    storeUrl: string,
    parts: AsyncDisposableStack,
  ) {
    this.#options = options;
    this.#fabric = fabric;
    this.#parts = parts;
    this.#storeUrl = storeUrl;
    this.store = store;
    this.description = `real processes in network namespaces; store ${store.capabilities.server} (pid ${server.pid}) at ${storeUrl}`;
  }

  static async start(options: NamespaceWorldOptions): Promise<NamespaceWorld> {
    await using parts = new AsyncDisposableStack();
    await mkdir(join(options.directory, "logs"), { recursive: true });
    const fabric = parts.use(await Fabric.start());
    const server = parts.use(
      options.store === "etcd"
        ? await startEtcd({ host: fabricAddress })
        : await startRedis({ host: fabricAddress, appendonly: true }),
    );
    const storeUrl = `${options.store}://${server.host}:${server.port}`;
    const args = ["--store", storeUrl, "--parent-cidr", "172.20.0.0/16", "--quarantine", options.quarantine];
    await command(process.execPath, [cli, "cluster", "init", ...args]);
    const store = parts.use(await openStore(storeUrl));
    return new NamespaceWorld(options, fabric, server, store, storeUrl, parts.move());
  }

  async addNode(name: string): Promise<void> {
    const number = this.#nodes.size + 1;
    const instanceID = `i-${name}`;
    const namespace = `${this.#options.prefix}-${name}`;
    const directory = join(this.#options.directory, name);
    await mkdir(directory, { recursive: true });
    await ip("netns", "add", namespace);
    await this.#fabric.addInstance(
      instanceID,
      namespace,
      `172.31.0.${10 + number}`,
      `02:00:00:00:00:${hex(number)}`,
    );
    const files = ["--state-dir", directory, "--cni-conflist", join(directory, "30-cocoon-dhcp.conflist")];
    const common = [...files, "--store", this.#storeUrl, "--pid-file", join(directory, "daemon.pid")];
    const init = this.#run(`${name}-init`, namespace, [
      ...["init", "--platform", "volcengine", "--node-name", name, "--pool-size", "40"],
      ...common,
    ]);
    await this.#until(`init of ${name}`, async () => init.ended !== undefined);
    if (init.ended !== "exit code 0")
      throw new Error(`init of ${name} ended with ${init.ended}: ${await init.tail(3)}`);
    await this.#fabric.settled();
    const daemon = this.#run(`${name}-daemon`, namespace, [
      ...["daemon", "--lease-file", join(directory, "leases.json"), "--metrics-addr", "127.0.0.1:9092"],
      ...["--session-ttl", this.#options.sessionTtl],
      ...common,
    ]);
    this.#nodes.set(name, { instanceID, namespace, directory, daemon, number });
    await this.#until(`${name} to be alive in the store`, async () => {
      if (daemon.ended !== undefined)
        throw new Error(`daemon of ${name} ended with ${daemon.ended}: ${await daemon.tail(3)}`);
      return (await this.store.get(keys.alive(name))).entry !== undefined;
    });
  }

  async addVirtualMachine(node: string, name: string): Promise<VirtualMachine> {
    const host = this.#node(node);
    const number = ++this.#machines;
    const namespace = this.#namespaceOf(name);
    const mac = `52:54:00:00:00:${hex(number)}`;
    const tap = `tap${number}`;
    await ip("netns", "add", namespace);
    await ip(
      "-n",
      host.namespace,
      "link",
      "add",
      tap,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "address",
      mac,
      "netns",
      namespace,
    );
    // As the CNI bridge plugin plugs a VM in: isolated from its neighbours on the bridge.
    await ipBatch(
      [`link set ${tap} master cni0`, `link set ${tap} type bridge_slave isolated on`, `link set ${tap} up`],
      {
        netns: host.namespace,
      },
    );
    await ipBatch(["link set lo up", "link set eth0 up"], { netns: namespace });
    const client = this.#start(`${name}-udhcpc`, [
      ...[
        "ip",
        "netns",
        "exec",
        namespace,
        "udhcpc",
        "-f",
        "-i",
        "eth0",
        "-s",
        udhcpcScript,
        "-x",
        `hostname:${name}`,
      ],
      ...["-t", "10", "-T", "1", "-A", "1"],
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
    return { name, node, mac, address: address ?? "" };
  }

  async leasesFile(node: string): Promise<{ mac: string; ip: string }[]> {
    const text = await readFile(join(this.#node(node).directory, "leases.json"), "utf8").catch(() => "[]");
    return JSON.parse(text) as { mac: string; ip: string }[];
  }

  async ping(from: VirtualMachine, address: string): Promise<boolean> {
    parseAddress(address);
    const args = ["netns", "exec", this.#namespaceOf(from.name), "ping", "-n", "-c", "1", "-W", "1", address];
    return command("ip", args).then(
      () => true,
      () => false,
    );
  }

  async crash(node: string): Promise<void> {
    const { daemon, instanceID } = this.#node(node);
    await daemon.kill("SIGKILL");
    this.#fabric.simulator.stopInstance(instanceID);
  }

  async addController(name: string): Promise<void> {
    this.#start(name, [
      ...[process.execPath, cli, "controller", "--store", this.#storeUrl, "--id", name],
      ...["--leader-ttl", "5s", "--suspect-after", "3s", "--reclaim-after", "2s", "--look-again-after", "1s"],
    ]);
  }

  lookInside(): readonly string[] {
    const node = [...this.#nodes.values()][0];
    const command = (rest: string): string =>
      `${this.#options.enter} npx cocoon-net ${rest} --store ${this.#storeUrl}`;
    return [
      command("cluster nodes"),
      command("cluster leases"),
      command("cluster events"),
      ...(node ? [`${this.#options.enter} ip netns exec ${node.namespace} ip route`] : []),
      `ls ${this.#options.directory}`,
    ];
  }

  async logs(): Promise<{ name: string; tail: string }[]> {
    return Promise.all(this.#processes.map(async (item) => ({ name: item.name, tail: await item.tail(12) })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((item) => item[Symbol.asyncDispose]()));
    await this.#parts.disposeAsync();
  }

  #node(name: string): Node {
    const node = this.#nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}`);
    return node;
  }

  #namespaceOf(machine: string): string {
    return `${this.#options.prefix}-${machine}`;
  }

  #run(name: string, namespace: string, args: readonly string[]): LabProcess {
    return this.#start(name, ["ip", "netns", "exec", namespace, process.execPath, cli, ...args]);
  }

  #start(name: string, argv: readonly string[]): LabProcess {
    const item = new LabProcess(name, join(this.#options.directory, "logs", `${name}.log`), argv, {
      ...process.env,
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: this.#fabric.simulator.region,
      COCOON_NET_VOLCENGINE_ENDPOINT: `http://${fabricAddress}:${apiPort}`,
      NO_PROXY: "*",
    });
    this.#processes.push(item);
    return item;
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + this.patience * 1_000;
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`not within ${this.patience} s: ${what}`);
      await pause(50);
    }
    await this.#fabric.settled();
  }
}

function hex(number: number): string {
  return number.toString(16).padStart(2, "0");
}
