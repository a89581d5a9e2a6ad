import { decode, keys, leaseSchema, type NodeStatus, nodeSchema, pause, type Store } from "@cocoon-net/core";
import type { Timeline } from "./timeline.ts";
import type { VirtualMachine, World } from "./world.ts";

/** What the stories are made of. Whatever does not come about within the world's patience ends the story. */
export class Scene {
  readonly world: World;
  readonly timeline: Timeline;
  readonly signal: AbortSignal;
  /** In seconds, the slowest of each: from a node's boot to its heartbeat, from a VM's boot to its address. */
  readonly slowest: { join: number; lease: number } = { join: 0, lease: 0 };
  #controllers = false;

  constructor(world: World, timeline: Timeline, signal: AbortSignal) {
    this.world = world;
    this.timeline = timeline;
    this.signal = signal;
  }

  get store(): Store {
    return this.world.store;
  }

  /** Two controllers, of which one leads; unless an earlier story has started them. */
  async controllers(): Promise<void> {
    if (this.#controllers) return;
    this.#controllers = true;
    this.timeline.step("two controllers start; one will lead");
    await this.world.addController("controller-a");
    await this.world.addController("controller-b");
    await this.eventually("a controller leads", async () => {
      return (await this.store.get(keys.leader)).entry !== undefined;
    });
  }

  /** So many nodes that are ready; new ones join where an earlier story has not left enough. */
  async nodes(count: number): Promise<string[]> {
    await this.controllers();
    const ready: string[] = [];
    for (const node of this.world.nodes) if ((await this.statusOf(node)) === "ready") ready.push(node);
    if (ready.length < count) this.timeline.step(`nodes join, until ${count} are ready`);
    const first = this.world.nodes.length + 1;
    const missing = Math.max(0, count - ready.length);
    const joining = Array.from({ length: missing }, (_, index) => `n${first + index}`);
    await this.joinAll(joining);
    return [...ready, ...joining].slice(0, count);
  }

  /** @returns its subnet */
  async join(node: string): Promise<string> {
    const [subnet] = await this.joinAll([node]);
    if (subnet === undefined) throw new Error(`${node} has not joined`);
    return subnet;
  }

  /** Each when the one before has its block, so that it takes the next. @returns their subnets */
  async joinAll(nodes: readonly string[]): Promise<string[]> {
    const joining: { readonly node: string; readonly joined: Promise<number> }[] = [];
    for (const node of nodes) {
      const before = await this.subnetOf(node);
      const joined = this.#bringUp(node);
      // One that fails ends the story while others are still joining.
      joined.catch(() => {});
      joining.push({ node, joined });
      const owns = async (): Promise<boolean> => (await this.subnetOf(node)) !== before;
      await Promise.race([joined, this.eventually(`${node} owns a subnet`, owns)]);
    }
    const subnets: string[] = [];
    for (const { node, joined } of joining) {
      const seconds = await joined;
      const subnet = await this.subnetOf(node);
      this.timeline.done(`${node} is up with ${subnet} after ${seconds.toFixed(1)} s`);
      subnets.push(subnet);
    }
    return subnets;
  }

  /** @returns how many seconds it took */
  async #bringUp(node: string): Promise<number> {
    const start = this.timeline.seconds;
    await this.world.addNode(node);
    const took = this.timeline.seconds - start;
    this.slowest.join = Math.max(this.slowest.join, took);
    return took;
  }

  async boot(node: string, name: string): Promise<VirtualMachine> {
    const start = this.timeline.seconds;
    const machine = await this.world.addVirtualMachine(node, name);
    this.slowest.lease = Math.max(this.slowest.lease, this.timeline.seconds - start);
    return machine;
  }

  async recorded({ node, address, mac }: VirtualMachine): Promise<void> {
    await this.eventually(`leases.json of ${node} shows ${address} for ${mac}`, async () =>
      (await this.world.leasesFile(node)).some((lease) => lease.ip === address && lease.mac === mac),
    );
    await this.eventually(`the store shows ${address} for ${mac}`, async () => {
      const { entry } = await this.store.get(keys.pool(address));
      return entry !== undefined && decode(leaseSchema, entry).mac === mac;
    });
  }

  async reaches(from: VirtualMachine, to: VirtualMachine): Promise<void> {
    await this.eventually(`${from.name} reaches ${to.name} at ${to.address}`, () =>
      this.world.ping(from, to.address),
    );
  }

  vm(name: string): VirtualMachine {
    const machine = this.world.machines.get(name);
    if (!machine) throw new Error(`there is no VM ${name}`);
    return machine;
  }

  async statusOf(node: string): Promise<NodeStatus | "gone"> {
    const { entry } = await this.store.get(keys.node(node));
    return entry === undefined ? "gone" : decode(nodeSchema, entry).status;
  }

  async subnetOf(node: string): Promise<string> {
    const { entry } = await this.store.get(keys.subnet(node));
    return entry === undefined ? "nothing" : (JSON.parse(entry.value) as string);
  }

  async eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + this.world.patience * 1_000;
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`not within ${this.world.patience} s: ${what}`);
      await pause(100, this.signal);
    }
  }
}

export function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`does not hold: ${what}`);
}
