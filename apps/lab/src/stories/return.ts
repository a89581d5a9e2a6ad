import { keys } from "@cocoon-net/core";
import { check, type Scene } from "../scene.ts";

/** A node that was only silent goes on at no cost; one that was dead, and has lost its block, joins anew. */
export async function comeBack(scene: Scene): Promise<string> {
  const { world, timeline, store } = scene;
  const [other = "", node = ""] = await scene.nodes(2);
  const [guest, friend] = [
    await scene.boot(node, `${node}-stays`),
    await scene.boot(other, `${other}-looks`),
  ];
  await scene.recorded(guest);
  const subnet = await scene.subnetOf(node);

  timeline.step(`the agent of ${node} stops; its instance runs on`);
  await world.silence(node);
  await scene.eventually(`${node} is suspect`, async () => (await scene.statusOf(node)) === "suspect");
  await scene.reaches(friend, guest);
  check((await store.get(keys.subnet(node))).entry !== undefined, `${node} still owns ${subnet}`);
  timeline.done(`${node} is suspect; the cloud says that it runs, so its guests keep what they have`);
  const spoke = timeline.seconds;
  await world.restart(node);
  await scene.eventually(`${node} is ready`, async () => (await scene.statusOf(node)) === "ready");
  const back = timeline.seconds - spoke;
  check((await scene.subnetOf(node)) === subnet, `${node} owns ${subnet} still`);
  await scene.reaches(friend, guest);
  timeline.done(`${node} is ready again ${back.toFixed(1)} s after its start, with ${subnet} and its guests`);

  timeline.step(`the instance of ${node} stops; when it has lost its block it is started again`);
  await world.crash(node);
  await scene.eventually(
    `${subnet} is taken from ${node}`,
    async () => (await scene.subnetOf(node)) === "nothing",
  );
  check(!(await world.ping(friend, guest.address)), `${guest.address} no longer answers`);
  const began = timeline.seconds;
  await world.reboot(node);
  await scene.eventually(`${node} is ready`, async () => (await scene.statusOf(node)) === "ready");
  const anew = timeline.seconds - began;
  const fresh = await scene.boot(node, `${node}-fresh`);
  await scene.reaches(friend, fresh);
  timeline.done(`${node} is back with ${await scene.subnetOf(node)}; ${fresh.name} got ${fresh.address}`);
  return `silent → ready ${back.toFixed(1)} s, dead → ready ${anew.toFixed(1)} s`;
}
