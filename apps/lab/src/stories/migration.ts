import { decode, keys, leaseSchema } from "@cocoon-net/core";
import { check, type Scene } from "../scene.ts";
import type { VirtualMachine } from "../world.ts";

/**
 * A VM moves twice and comes home, with its address, and a TCP connection from a third node goes on. Not so one from the
 * node that it moves to: hosts masquerade what their guests send to other hosts, and that ends.
 */
export async function migration(scene: Scene): Promise<string> {
  const { world, timeline, store } = scene;
  const [home = "", second = "", third = "", another = ""] = await scene.nodes(4);
  timeline.step(`a VM on ${home} and one on ${another} talk over a TCP connection`);
  const guest = await scene.boot(home, `${home}-mover`);
  const friend = await scene.boot(another, `${another}-friend`);
  await scene.recorded(guest);
  await scene.reaches(friend, guest);
  await using talk = await world.talk(friend, guest);
  await scene.eventually("the two talk", async () => talk.rounds > 2);
  timeline.done(`${friend.name} at ${friend.address} talks to ${guest.name} at ${guest.address}`);

  let slowest = 0;
  for (const node of [second, third, home]) {
    timeline.step(`${guest.address} moves to ${node}, and ${guest.name} with it`);
    await world.migrate(guest.address, node, () => world.replug(guest.name, node));
    const began = timeline.seconds;
    const before = talk.rounds;
    await scene.eventually(`${guest.address} answers from ${node}`, async () => talk.rounds > before + 2);
    const took = timeline.seconds - began;
    slowest = Math.max(slowest, took);
    const { entry } = await store.get(keys.pool(guest.address));
    check(entry !== undefined && decode(leaseSchema, entry).node === node, `${node} has the lease`);
    check(talk.failure === undefined, `the connection goes on: ${talk.failure}`);
    // At home the CNI plugin isolates guests of one bridge from each other.
    const neighbour = node === home ? undefined : guestOf(scene, node);
    if (neighbour) await scene.reaches(neighbour, guest);
    await scene.reaches(friend, guest);
    timeline.done(`the connection went on ${took.toFixed(1)} s after the VM was there`);
  }
  const moved = await store.get(keys.moved(guest.address));
  check(moved.entry === undefined, `${guest.address} is one like any other again`);
  return `three moves, the longest silence of the connection ${slowest.toFixed(1)} s`;
}

function guestOf({ world }: Scene, node: string): VirtualMachine | undefined {
  return [...world.machines.values()].find(
    (machine) => machine.node === node && !machine.name.endsWith("mover"),
  );
}
