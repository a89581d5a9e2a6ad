import { rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isDelivering, VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import volcengine from "@cocoon-net/cloud-volcengine";
import { createController } from "@cocoon-net/controller";
import { type Cloud, DisposeStack, initCluster, keys, pause, type Store } from "@cocoon-net/core";
import { MemoryDatabase, openMemoryStore } from "@cocoon-net/store-memory";
import { makeLabDirectory } from "../lab-directory.ts";
import type { VirtualMachine, World } from "../world.ts";
import { EmbeddedNode } from "./embedded-node.ts";

/** In milliseconds; everything is in one process, but that may stand still for a while on a busy machine. */
const times = {
  ...{ sessionTtlMs: 3_000, leaderTtlMs: 5_000, suspectAfterMs: 2_000, reclaimAfterMs: 1_000 },
  ...{ confirmAfterMs: 500, tickMs: 100, quarantineMs: 2_000 },
} as const;

const delays = {
  ...{ createEniMs: 20, attachMs: 20, detachMs: 20, deleteEniMs: 20, createSubnetMs: 20, instanceMs: 20 },
} as const;

function withoutKernel(): Error {
  return new Error("that needs network namespaces");
}

/** The same cluster without a kernel or a server: the agents' own parts on a memory store, all in this process. */
export class EmbeddedWorld implements World {
  readonly patience = 60;
  readonly isEmbedded = true;
  readonly store: Store;
  readonly description: string;
  readonly #database: MemoryDatabase;
  readonly #simulator: VolcengineSimulator;
  readonly #api: string;
  readonly #directory: string;
  readonly #signal: AbortSignal;
  readonly #parts: DisposeStack;
  readonly #nodes = new Map<string, EmbeddedNode>();
  readonly #machines = new Map<string, VirtualMachine>();

  private constructor(
    database: MemoryDatabase,
    store: Store,
    simulator: VolcengineSimulator,
    api: string,
    directory: string,
    signal: AbortSignal,
    parts: DisposeStack,
  ) {
    this.#database = database;
    this.store = store;
    this.#simulator = simulator;
    this.#api = api;
    this.#directory = directory;
    this.#signal = signal;
    this.#parts = parts;
    this.description = `the simulated cloud is up: ${api}`;
  }

  static readonly header: readonly [string, string][] = [
    ["", "cocoon-net lab: a cluster in one process, in about 15 seconds"],
    ["real", "two controllers, the agents' registration, DHCP servers, journals and heartbeats"],
    [
      "simulated",
      "the store (in memory), the kernel's routes, the VMs' DHCP clients, the cloud (over loopback)",
    ],
    ["story", "nodes join, VMs get addresses and talk, a node dies, its block comes back and is used again"],
  ];

  static async start(signal: AbortSignal): Promise<EmbeddedWorld> {
    await using parts = new DisposeStack();
    const directory = await makeLabDirectory();
    const removeNow = (): void => rmSync(directory, { recursive: true, force: true });
    process.once("exit", removeNow);
    parts.defer(async () => {
      await rm(directory, { recursive: true, force: true });
      process.off("exit", removeNow);
    });
    const database = new MemoryDatabase();
    const store = parts.use(openMemoryStore({ database }));
    const simulator = parts.use(new VolcengineSimulator({ vpcCIDR: "172.20.0.0/16", delays }));
    const { api = "" } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    await initCluster(store, {
      ...{ parentCIDR: "172.20.0.0/16", platform: "volcengine", quarantineMs: times.quarantineMs },
    });
    return new EmbeddedWorld(database, store, simulator, api, directory, signal, parts.move());
  }

  get nodes(): readonly string[] {
    return [...this.#nodes.keys()];
  }

  get machines(): ReadonlyMap<string, VirtualMachine> {
    return this.#machines;
  }

  async addNode(name: string): Promise<void> {
    if (this.#nodes.has(name)) throw new Error(`there was a node ${name} already; take another name`);
    const instanceID = `i-${name}`;
    this.#simulator.addInstance({ instanceID });
    const { metadata } = await this.#simulator.listen({
      metadata: { host: "127.0.0.1", port: 0, instanceID },
    });
    const node = this.#parts.use(
      await EmbeddedNode.start({
        ...{ name, database: this.#database, sessionTtlMs: times.sessionTtlMs },
        cloud: this.#parts.use(this.#cloud(metadata)),
        directory: join(this.#directory, name),
      }),
    );
    this.#nodes.set(name, node);
    const deadline = performance.now() + this.patience * 1_000;
    while ((await this.store.get(keys.alive(name))).entry === undefined) {
      if (performance.now() > deadline) throw new Error(`not within ${this.patience} s: ${name} is alive`);
      await pause(20, this.#signal);
    }
  }

  async addVirtualMachine(node: string, name: string): Promise<VirtualMachine> {
    const mac = `52:54:00:00:00:${(this.#machines.size + 1).toString(16).padStart(2, "0")}`;
    const address = await this.#node(node).bridge.boot(mac, name, 5_000);
    const machine = { name, node, mac, address };
    this.#machines.set(name, machine);
    return machine;
  }

  async leasesFile(node: string): Promise<{ mac: string; ip: string }[]> {
    return this.#node(node).leasesFile();
  }

  /** The way a packet would take: the cloud delivers to an instance, whose kernel has a route, behind which a VM is. */
  async ping(_from: VirtualMachine, address: string): Promise<boolean> {
    const { enis } = this.#simulator.describeState();
    const eni = enis.find(
      (item) => isDelivering(item) && item.addresses.some((entry) => entry.address === address),
    );
    const [name, node] = [...this.#nodes].find(([, { instanceID }]) => instanceID === eni?.instanceID) ?? [];
    const behind = [...this.#machines.values()].some((vm) => vm.address === address && vm.node === name);
    return behind && node?.routes.has(address) === true;
  }

  async crash(node: string): Promise<void> {
    const { instanceID } = this.#node(node);
    this.#node(node).silence();
    this.#simulator.stopInstance(instanceID);
  }

  async migrate(): Promise<never> {
    throw withoutKernel();
  }

  async silence(): Promise<never> {
    throw withoutKernel();
  }

  async restart(): Promise<never> {
    throw withoutKernel();
  }

  async reboot(): Promise<never> {
    throw withoutKernel();
  }

  async replug(): Promise<never> {
    throw withoutKernel();
  }

  async talk(): Promise<never> {
    throw withoutKernel();
  }

  async addController(name: string): Promise<void> {
    const { leaderTtlMs, suspectAfterMs, reclaimAfterMs, confirmAfterMs, tickMs } = times;
    const store = this.#parts.use(openMemoryStore({ database: this.#database }));
    const cloud = this.#parts.use(this.#cloud(undefined));
    const controller = this.#parts.use(
      createController({
        ...{ store, id: name, cloudFor: () => cloud },
        ...{ leaderTtlMs, suspectAfterMs, reclaimAfterMs, confirmAfterMs, tickMs },
      }),
    );
    const stop = new AbortController();
    const running = controller.run({ signal: stop.signal });
    this.#parts.defer(async () => {
      stop.abort();
      await running;
    });
  }

  lookInside(): readonly string[] {
    return [];
  }

  ended(): readonly string[] {
    return [];
  }

  async logs(): Promise<[]> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
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

  #node(name: string): EmbeddedNode {
    const node = this.#nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}: ${[...this.#nodes.keys()].join(", ")}`);
    return node;
  }
}
