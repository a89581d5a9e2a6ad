import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  agentVersion,
  BuiltinLeaseBook,
  ClusterLink,
  createLogger,
  FileJob,
  joinCluster,
  StateDirectory,
} from "@cocoon-net/agent";
import { isDelivering, VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import volcengine from "@cocoon-net/cloud-volcengine";
import { createController } from "@cocoon-net/controller";
import {
  type Cloud,
  formatAddress,
  hostRange,
  initCluster,
  keys,
  parseCidr,
  pause,
  type Store,
} from "@cocoon-net/core";
import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import type { VirtualMachine, World } from "../world.ts";
import { SimulatedBridge } from "./dhcp-client.ts";

interface Node {
  readonly instanceID: string;
  readonly directory: string;
  readonly bridge: SimulatedBridge;
  /** Addresses with a /32 route to the bridge: the simulated kernel. */
  readonly routes: Set<string>;
  /** The agent's way to the store. */
  readonly link: MemoryLink;
  readonly stop: AbortController;
  readonly parts: AsyncDisposableStack;
}

const log = createLogger({ COCOON_NET_LOG_LEVEL: "silent" });

/** The same cluster without a kernel or a server: the agents' own parts on a memory store, all in this process. */
export class EmbeddedWorld implements World {
  readonly patience = 20;
  readonly description: string =
    `one process: memory store, simulated cloud and kernel, cocoon-net ${agentVersion}`;
  readonly store: Store;
  readonly #database: MemoryDatabase;
  readonly #simulator: VolcengineSimulator;
  readonly #api: string;
  readonly #directory: string;
  readonly #parts: AsyncDisposableStack;
  readonly #stop = new AbortController();
  readonly #nodes = new Map<string, Node>();
  readonly #machines = new Map<string, VirtualMachine>();

  private constructor(
    database: MemoryDatabase,
    store: Store,
    simulator: VolcengineSimulator,
    api: string,
    directory: string,
    parts: AsyncDisposableStack,
  ) {
    this.#database = database;
    this.store = store;
    this.#simulator = simulator;
    this.#api = api;
    this.#directory = directory;
    this.#parts = parts;
  }

  static async start(): Promise<EmbeddedWorld> {
    await using parts = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "cocoon-lab-"));
    parts.defer(() => rm(directory, { recursive: true, force: true }));
    const database = new MemoryDatabase();
    const store = parts.use(openMemoryStore({ database }));
    const simulator = parts.use(new VolcengineSimulator({ vpcCIDR: "172.20.0.0/16" }));
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    await initCluster(store, { parentCIDR: "172.20.0.0/16", platform: "volcengine", quarantineMs: 2_000 });
    return new EmbeddedWorld(database, store, simulator, api ?? "", directory, parts.move());
  }

  async addNode(name: string): Promise<void> {
    const instanceID = `i-${name}`;
    this.#simulator.addInstance({ instanceID });
    const { metadata } = await this.#simulator.listen({
      metadata: { host: "127.0.0.1", port: 0, instanceID },
    });
    const parts = new AsyncDisposableStack();
    this.#parts.use(parts);
    const link = new MemoryLink();
    const store = parts.use(openMemoryStore({ database: this.#database, link }));
    const directory = join(this.#directory, name);
    await mkdir(directory);
    const state = new StateDirectory(directory);
    const cloud = parts.use(this.#cloud(metadata));
    const instance = await cloud.describeSelf();
    const registration = await joinCluster(store, state, {
      node: name,
      platform: "volcengine",
      instanceID: instance.instanceID,
      zone: instance.zone,
    });
    const job = await FileJob.open(state.jobPath, "init");
    const { subnet } = registration;
    const network = await cloud.provision(
      { node: name, instance, subnet, poolSize: 40, tags: { "cocoon-net:node": name } },
      job,
    );
    await job.finish();
    await registration.update({ eniIDs: network.eniIDs });
    const pool = await state.writePool({
      platform: "volcengine",
      nodeName: name,
      subnet,
      gateway: formatAddress(hostRange(parseCidr(subnet)).first),
      ips: network.addresses,
      dnsServers: ["8.8.8.8"],
    });
    const bridge = new SimulatedBridge();
    const routes = new Set<string>();
    const stop = new AbortController();
    const book = await BuiltinLeaseBook.start(
      {
        pool,
        state,
        leaseFile: join(directory, "leases.json"),
        granting: "renew-only",
        log,
        network: {
          addRoute: async (ip) => void routes.add(ip),
          removeRoute: async (ip) => void routes.delete(ip),
          setNeighbour: async () => {},
          listRoutes: async () => [...routes],
        },
        openSocket: async () => bridge,
      },
      stop.signal,
    );
    parts.use(book);
    const membership = new ClusterLink({
      open: async () => openMemoryStore({ database: this.#database, link }),
      register: async () => registration,
      book,
      sessionTtlMs: 2_000,
      log,
    });
    const running = membership.run(stop.signal);
    parts.defer(async () => {
      stop.abort();
      await running;
    });
    this.#nodes.set(name, { instanceID, directory, bridge, routes, link, stop, parts });
    while ((await this.store.get(keys.alive(name))).entry === undefined) await pause(20, this.#stop.signal);
  }

  async addVirtualMachine(node: string, name: string): Promise<VirtualMachine> {
    const mac = `52:54:00:00:00:${(this.#machines.size + 1).toString(16).padStart(2, "0")}`;
    const address = await this.#node(node).bridge.boot(mac, name, 5_000);
    const machine = { name, node, mac, address };
    this.#machines.set(name, machine);
    return machine;
  }

  async leasesFile(node: string): Promise<{ mac: string; ip: string }[]> {
    const text = await readFile(join(this.#node(node).directory, "leases.json"), "utf8").catch(() => "[]");
    return JSON.parse(text) as { mac: string; ip: string }[];
  }

  /** The way a packet would take: the cloud delivers to an instance, whose kernel has a route, behind which a VM is. */
  async ping(_from: VirtualMachine, address: string): Promise<boolean> {
    const eni = this.#simulator
      .describeState()
      .enis.find((item) => isDelivering(item) && item.addresses.some((entry) => entry.address === address));
    const node = [...this.#nodes].find(([, { instanceID }]) => instanceID === eni?.instanceID);
    if (!node?.[1].routes.has(address)) return false;
    return [...this.#machines.values()].some(
      (machine) => machine.address === address && machine.node === node[0],
    );
  }

  async crash(node: string): Promise<void> {
    const { link, instanceID } = this.#node(node);
    // To the store a killed process is one that never speaks again.
    link.blackhole();
    this.#simulator.stopInstance(instanceID);
  }

  async addController(name: string): Promise<void> {
    const store = this.#parts.use(openMemoryStore({ database: this.#database }));
    const cloud = this.#parts.use(this.#cloud(undefined));
    const controller = createController({
      ...{ store, id: name, cloudFor: () => cloud },
      ...{ leaderTtlMs: 2_000, suspectAfterMs: 500, reclaimAfterMs: 1_000, confirmAfterMs: 500, tickMs: 100 },
    });
    const running = controller.run({ signal: this.#stop.signal });
    this.#parts.defer(async () => {
      this.#stop.abort();
      await running;
      await controller[Symbol.asyncDispose]();
    });
  }

  lookInside(): readonly string[] {
    return ["nothing of it can be seen from another terminal: run it as root on Linux for the real one"];
  }

  async logs(): Promise<[]> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#parts.disposeAsync();
  }

  #cloud(metadata: string | undefined): Cloud {
    return volcengine.open("volcengine", {
      env: {
        VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
        VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
        VOLCENGINE_REGION: this.#simulator.region,
        COCOON_NET_VOLCENGINE_ENDPOINT: this.#api,
        COCOON_NET_METADATA_ENDPOINT: metadata,
      },
    });
  }

  #node(name: string): Node {
    const node = this.#nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}`);
    return node;
  }
}
