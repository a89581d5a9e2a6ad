import { decode, keys, leaseSchema, prefixes, quarantineSchema } from "@cocoon-net/core";
import { clusterTable } from "../cluster-table.ts";
import { check, type Scene } from "../scene.ts";

/** What was measured, in seconds. The last three count from the node's death. */
interface Times {
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
export async function reclaim(scene: Scene): Promise<string> {
  const { world, timeline, store } = scene;

  await scene.controllers();

  timeline.step("three nodes join: each takes the next free /24");
  const subnets = await scene.joinAll(["n1", "n2", "n3"]);
  const [, block = ""] = subnets;
  check(new Set(subnets).size === 3, `three nodes own ${subnets.join(", ")}`);

  timeline.step("two VMs boot on each node and ask for an address by DHCP");
  for (const node of ["n1", "n2", "n3"]) {
    const [first, second] = [await scene.boot(node, `${node}-vm1`), await scene.boot(node, `${node}-vm2`)];
    timeline.done(`${first.name} got ${first.address}, ${second.name} got ${second.address}`);
  }
  const addresses = new Set([...world.machines.values()].map(({ address }) => address));
  check(addresses.size === 6, `six VMs have the addresses ${[...addresses].join(", ")}`);
  for (const machine of world.machines.values()) await scene.recorded(machine);
  timeline.done("every lease is in its node's leases.json and in the store");
  timeline.text(await clusterTable(store));

  timeline.step("VMs talk to VMs on other nodes, through the fabric");
  const [a, b, doomed] = [scene.vm("n1-vm1"), scene.vm("n3-vm1"), scene.vm("n2-vm1")];
  for (const [from, to] of [
    [a, b],
    [b, a],
    [a, doomed],
  ] as const) {
    await scene.reaches(from, to);
  }
  timeline.done(`${a.address} reaches ${b.address} and ${doomed.address}`);

  timeline.step("n2 dies: its agent is killed and the cloud says stopped, but its kernel still forwards");
  const died = timeline.seconds;
  await world.crash("n2");
  await scene.reaches(a, doomed);
  timeline.done(`${doomed.address} still answers: a zombie, whose addresses must not be given away yet`);
  await scene.eventually("n2 is suspect or beyond", async () => (await scene.statusOf("n2")) !== "ready");
  const suspect = timeline.seconds - died;
  await scene.eventually("n2's block is fenced and in quarantine", async () => {
    const { entry } = await store.get(keys.quarantine(block));
    return entry !== undefined && decode(quarantineSchema, entry).fenced;
  });
  const fenced = timeline.seconds - died;
  check(!(await world.ping(a, doomed.address)), `the fence stops the traffic to ${doomed.address}`);
  timeline.done(`fenced after ${fenced.toFixed(1)} s: ${doomed.address} no longer answers`);
  const held = await store.get(keys.slot(block));
  check(held.entry !== undefined, `${block} is held while it is in quarantine`);
  await scene.eventually(
    "n2's block is free",
    async () => (await store.get(keys.slot(block))).entry === undefined,
  );
  const free = timeline.seconds - died;
  await scene.eventually("n2's leases are gone from the store", async () => {
    const { entries } = await store.list(prefixes.pool);
    return !entries.some((entry) => decode(leaseSchema, entry).node === "n2");
  });
  timeline.done(`${block} is free after ${free.toFixed(1)} s, with no human in between`);

  timeline.step("n4 joins and gets the freed block");
  const reused = await scene.join("n4");
  check(reused === block, `n4 owns ${reused}; n2 had ${block}`);
  const heir = await scene.boot("n4", "n4-vm1");
  await scene.recorded(heir);
  await scene.reaches(a, heir);
  await scene.reaches(a, b);
  timeline.done(`${heir.name} got ${heir.address} and answers; n1 and n3 noticed nothing`);
  timeline.text(await clusterTable(store));
  return summary({ ...scene.slowest, suspect, fenced, free });
}

function summary({ join, lease, suspect, fenced, free }: Times): string {
  const s = (seconds: number): string =>
    seconds < 1 ? `${Math.round(seconds * 1_000)} ms` : `${seconds.toFixed(1)} s`;
  return `join ${s(join)}, lease ${s(lease)}, death → suspect ${s(suspect)} → fenced ${s(fenced)} → free ${s(free)}`;
}
