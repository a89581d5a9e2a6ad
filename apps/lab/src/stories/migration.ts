import { decode, describeError, keys, leaseSchema } from "@cocoon-net/core";
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

  const goesOn = async (node: string): Promise<void> => {
    const before = talk.rounds;
    await scene.eventually(`${guest.address} answers from ${node}`, async () => talk.rounds > before + 2);
    const { entry } = await store.get(keys.pool(guest.address));
    check(entry !== undefined && decode(leaseSchema, entry).node === node, `${node} has the lease`);
    check(talk.failure === undefined, `the connection goes on: ${talk.failure}`);
  };
  let slowest = 0;
  for (const node of [second, third, home]) {
    timeline.step(`${guest.address} moves to ${node}, and ${guest.name} with it`);
    await world.migrate(guest.address, node, () => world.replug(guest.name, node));
    const began = timeline.seconds;
    await goesOn(node);
    const took = timeline.seconds - began;
    slowest = Math.max(slowest, took);
    // At home the CNI plugin isolates guests of one bridge from each other.
    const neighbour = node === home ? undefined : guestOf(scene, node);
    if (neighbour) await scene.reaches(neighbour, guest);
    await scene.reaches(friend, guest);
    timeline.done(`the connection went on ${took.toFixed(1)} s after the VM was there`);
  }

  timeline.step(`the agent of ${second} dies when ${guest.address} is about to move there`);
  await world.silence(second);
  const refusal = await world
    .migrate(guest.address, second, async () => {})
    .then(
      () => undefined,
      (error: unknown) => describeError(error),
    );
  check(refusal?.includes("did not move") ?? false, `the move is given up: ${refusal}`);
  await goesOn(home);
  await world.restart(second);
  timeline.done("the move is given up, and everything is as it was");

  timeline.step(`the agent of ${third} dies when it has just got ${guest.address}, and is started again`);
  await world.migrate(guest.address, third, async () => {
    await world.silence(third);
    await world.replug(guest.name, third);
    await world.restart(third);
  });
  await goesOn(third);
  timeline.done(`${third} goes on with what it was given`);
  await world.migrate(guest.address, home, () => world.replug(guest.name, home));
  await goesOn(home);
  const moved = await store.get(keys.moved(guest.address));
  check(moved.entry === undefined, `${guest.address} is one like any other again`);
  return `three moves, the longest silence of the connection ${slowest.toFixed(1)} s`;
}

function guestOf({ world }: Scene, node: string): VirtualMachine | undefined {
  return [...world.machines.values()].find(
    (machine) => machine.node === node && !machine.name.endsWith("mover"),
  );
}
