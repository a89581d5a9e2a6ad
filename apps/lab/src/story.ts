import { decode, keys, leaseSchema, nodeSchema, pause, prefixes, quarantineSchema } from "@cocoon-net/core";
import { clusterTable, type Timeline } from "./timeline.ts";
import type { VirtualMachine, World } from "./world.ts";

/**
 * Nodes join, VMs get addresses, a node dies and gives everything back, a new node gets the freed block. Every
 * step is checked. @throws {Error} saying which step failed and what was seen instead.
 */
export async function play(world: World, timeline: Timeline, signal: AbortSignal): Promise<void> {
  const { store } = world;

  timeline.step("two controllers start; one will lead");
  await world.addController("controller-a");
  await world.addController("controller-b");
  await eventually("a controller leads", async () => (await store.get(keys.leader)).entry !== undefined);

  timeline.step("three nodes join: each takes the next free /24");
  for (const node of ["n1", "n2", "n3"]) await world.addNode(node);
  const subnets = await Promise.all(["n1", "n2", "n3"].map(subnetOf));
  check(new Set(subnets).size === 3, `three nodes own ${subnets.join(", ")}`);
  timeline.done(`n1, n2 and n3 own ${subnets.join(", ")}`);

  timeline.step("two VMs boot on each node and ask for an address");
  const machines = new Map<string, VirtualMachine>();
  for (const node of ["n1", "n2", "n3"]) {
    for (const name of [`${node}-vm1`, `${node}-vm2`]) {
      const machine = await world.addVirtualMachine(node, name);
      machines.set(name, machine);
      timeline.done(`${name} got ${machine.address}`);
    }
  }
  check(
    new Set([...machines.values()].map(({ address }) => address)).size === 6,
    "six VMs have six addresses",
  );
  for (const machine of machines.values()) {
    await eventually(`leases.json of ${machine.node} shows ${machine.address}`, async () =>
      (await world.leasesFile(machine.node)).some(
        ({ ip, mac }) => ip === machine.address && mac === machine.mac,
      ),
    );
    await eventually(`the store shows ${machine.address}`, async () => {
      const { entry } = await store.get(keys.pool(machine.address));
      return entry !== undefined && decode(leaseSchema, entry).mac === machine.mac;
    });
  }
  timeline.done("every lease is in its node's leases.json and in the store");
  timeline.text(await clusterTable(store));

  timeline.step("a VM talks to a VM on another node, through the fabric");
  const [a, b, doomed] = [vm("n1-vm1"), vm("n3-vm1"), vm("n2-vm1")];
  await eventually(`${a.name} reaches ${b.name}`, () => world.ping(a, b.address));
  await eventually(`${b.name} reaches ${a.name}`, () => world.ping(b, a.address));
  await eventually(`${a.name} reaches ${doomed.name}`, () => world.ping(a, doomed.address));
  timeline.done(`${a.address} and ${b.address} answer each other`);

  timeline.step("n2 dies: its agent is killed and the cloud says stopped, but its kernel still forwards");
  const died = timeline.seconds;
  await world.crash("n2");
  check(await world.ping(a, doomed.address), "a zombie's VM still answers before the fence");
  timeline.done(`${doomed.address} still answers: a zombie, whose addresses must not be given away yet`);
  await eventually("n2 is suspect or beyond", async () => (await statusOf("n2")) !== "ready");
  await eventually("n2's block is fenced and in quarantine", async () => {
    const { entry } = await store.get(keys.quarantine(subnets[1] ?? ""));
    return entry !== undefined && decode(quarantineSchema, entry).fenced;
  });
  check(!(await world.ping(a, doomed.address)), "the fence stopped the traffic to n2's VMs");
  timeline.done(
    `fenced after ${(timeline.seconds - died).toFixed(1)} s: ${doomed.address} no longer answers`,
  );
  check(
    (await store.get(keys.slot(subnets[1] ?? ""))).entry !== undefined,
    "the slot is held while in quarantine",
  );
  await eventually(
    "n2's block is free",
    async () => (await store.get(keys.slot(subnets[1] ?? ""))).entry === undefined,
  );
  await eventually("n2's leases are gone from the store", async () => {
    const { entries } = await store.list(prefixes.pool);
    return !entries.some((entry) => decode(leaseSchema, entry).node === "n2");
  });
  timeline.done(`${subnets[1]} is free ${(timeline.seconds - died).toFixed(1)} s after n2 died`);

  timeline.step("n4 joins and gets the freed block");
  await world.addNode("n4");
  const reused = await subnetOf("n4");
  check(reused === subnets[1], `n4 owns ${reused}, the block that n2 had`);
  const heir = await world.addVirtualMachine("n4", "n4-vm1");
  await eventually(`${a.name} reaches ${heir.name}`, () => world.ping(a, heir.address));
  await eventually(`${a.name} still reaches ${b.name}`, () => world.ping(a, b.address));
  timeline.done(`n4 owns ${reused}; its VM ${heir.address} answers; nobody else noticed`);
  timeline.text(await clusterTable(store));

  function vm(name: string): VirtualMachine {
    const machine = machines.get(name);
    if (!machine) throw new Error(`there is no VM ${name}`);
    return machine;
  }

  async function subnetOf(node: string): Promise<string> {
    const { entry } = await store.get(keys.subnet(node));
    return entry === undefined ? "nothing" : (JSON.parse(entry.value) as string);
  }

  async function statusOf(node: string): Promise<string> {
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
