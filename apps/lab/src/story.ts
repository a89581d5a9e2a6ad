import {
  decode,
  keys,
  leaseSchema,
  type NodeStatus,
  nodeSchema,
  pause,
  prefixes,
  quarantineSchema,
} from "@cocoon-net/core";
import { clusterTable } from "./cluster-table.ts";
import type { Timeline } from "./timeline.ts";
import type { VirtualMachine, World } from "./world.ts";

/** What was measured, in seconds. The last three count from the node's death. */
export interface StoryTimes {
  /** The slowest of the nodes, from the boot of its instance to its first heartbeat. */
  readonly join: number;
  /** The slowest of the VMs, from its boot to its address. */
  readonly lease: number;
  readonly suspect: number;
  readonly fenced: number;
  readonly free: number;
}

/**
 * Nodes join, VMs get addresses, a node dies and gives everything back, a new node gets the freed block. Every
 * step is checked. @throws {Error} saying which step failed and what was seen instead.
 */
export async function play(world: World, timeline: Timeline, signal: AbortSignal): Promise<StoryTimes> {
  const { store } = world;
  const seconds = { join: 0, lease: 0 };

  timeline.step("two controllers start; one will lead");
  await world.addController("controller-a");
  await world.addController("controller-b");
  await eventually("a controller leads", async () => (await store.get(keys.leader)).entry !== undefined);

  timeline.step("three nodes join: each takes the next free /24");
  const subnets: string[] = [];
  for (const node of ["n1", "n2", "n3"]) subnets.push(await join(node));
  const [, block = ""] = subnets;
  check(new Set(subnets).size === 3, `three nodes own ${subnets.join(", ")}`);

  timeline.step("two VMs boot on each node and ask for an address by DHCP");
  for (const node of ["n1", "n2", "n3"]) {
    const [first, second] = [await boot(node, `${node}-vm1`), await boot(node, `${node}-vm2`)];
    timeline.done(`${first.name} got ${first.address}, ${second.name} got ${second.address}`);
  }
  const addresses = new Set([...world.machines.values()].map(({ address }) => address));
  check(addresses.size === 6, `six VMs have the addresses ${[...addresses].join(", ")}`);
  for (const machine of world.machines.values()) await recorded(machine);
  timeline.done("every lease is in its node's leases.json and in the store");
  timeline.text(await clusterTable(store));

  timeline.step("VMs talk to VMs on other nodes, through the fabric");
  const [a, b, doomed] = [vm("n1-vm1"), vm("n3-vm1"), vm("n2-vm1")];
  for (const [from, to] of [
    [a, b],
    [b, a],
    [a, doomed],
  ] as const) {
    await reaches(from, to);
  }
  timeline.done(`${a.address} reaches ${b.address} and ${doomed.address}`);

  timeline.step("n2 dies: its agent is killed and the cloud says stopped, but its kernel still forwards");
  const died = timeline.seconds;
  await world.crash("n2");
  await reaches(a, doomed);
  timeline.done(`${doomed.address} still answers: a zombie, whose addresses must not be given away yet`);
  await eventually("n2 is suspect or beyond", async () => (await statusOf("n2")) !== "ready");
  const suspect = timeline.seconds - died;
  await eventually("n2's block is fenced and in quarantine", async () => {
    const { entry } = await store.get(keys.quarantine(block));
    return entry !== undefined && decode(quarantineSchema, entry).fenced;
  });
  const fenced = timeline.seconds - died;
  check(!(await world.ping(a, doomed.address)), `the fence stops the traffic to ${doomed.address}`);
  timeline.done(`fenced after ${fenced.toFixed(1)} s: ${doomed.address} no longer answers`);
  const held = await store.get(keys.slot(block));
  check(held.entry !== undefined, `${block} is held while it is in quarantine`);
  await eventually("n2's block is free", async () => (await store.get(keys.slot(block))).entry === undefined);
  const free = timeline.seconds - died;
  await eventually("n2's leases are gone from the store", async () => {
    const { entries } = await store.list(prefixes.pool);
    return !entries.some((entry) => decode(leaseSchema, entry).node === "n2");
  });
  timeline.done(`${block} is free after ${free.toFixed(1)} s, with no human in between`);

  timeline.step("n4 joins and gets the freed block");
  const reused = await join("n4");
  check(reused === block, `n4 owns ${reused}; n2 had ${block}`);
  const heir = await boot("n4", "n4-vm1");
  await recorded(heir);
  await reaches(a, heir);
  await reaches(a, b);
  timeline.done(`${heir.name} got ${heir.address} and answers; n1 and n3 noticed nothing`);
  timeline.text(await clusterTable(store));
  return { ...seconds, suspect, fenced, free };

  async function join(node: string): Promise<string> {
    const start = timeline.seconds;
    await world.addNode(node);
    const { entry } = await store.get(keys.subnet(node));
    const subnet = entry === undefined ? "nothing" : (JSON.parse(entry.value) as string);
    const took = timeline.seconds - start;
    seconds.join = Math.max(seconds.join, took);
    timeline.done(`${node} is up with ${subnet} after ${took.toFixed(1)} s`);
    return subnet;
  }

  async function boot(node: string, name: string): Promise<VirtualMachine> {
    const start = timeline.seconds;
    const machine = await world.addVirtualMachine(node, name);
    seconds.lease = Math.max(seconds.lease, timeline.seconds - start);
    return machine;
  }

  async function recorded({ node, address, mac }: VirtualMachine): Promise<void> {
    await eventually(`leases.json of ${node} shows ${address} for ${mac}`, async () =>
      (await world.leasesFile(node)).some((lease) => lease.ip === address && lease.mac === mac),
    );
    await eventually(`the store shows ${address} for ${mac}`, async () => {
      const { entry } = await store.get(keys.pool(address));
      return entry !== undefined && decode(leaseSchema, entry).mac === mac;
    });
  }

  async function reaches(from: VirtualMachine, to: VirtualMachine): Promise<void> {
    await eventually(`${from.name} reaches ${to.name} at ${to.address}`, () => world.ping(from, to.address));
  }

  function vm(name: string): VirtualMachine {
    const machine = world.machines.get(name);
    if (!machine) throw new Error(`there is no VM ${name}`);
    return machine;
  }

  async function statusOf(node: string): Promise<NodeStatus | "gone"> {
    const { entry } = await store.get(keys.node(node));
    return entry === undefined ? "gone" : decode(nodeSchema, entry).status;
  }

  async function eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + world.patience * 1_000;
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`not within ${world.patience} s: ${what}`);
      await pause(100, signal);
    }
  }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`does not hold: ${what}`);
}
