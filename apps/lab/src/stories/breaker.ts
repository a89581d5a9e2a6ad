import { readEvents } from "@cocoon-net/controller";
import { check, type Scene } from "../scene.ts";

/** Three nodes fall silent at once, which is more likely our fault than theirs: nothing is taken from any (G13). */
export async function breaker(scene: Scene): Promise<string> {
  const { world, timeline, store, signal } = scene;
  const nodes = (await scene.nodes(4)).slice(1);
  const before = await Promise.all(nodes.map((node) => scene.subnetOf(node)));
  const happened = async (type: string, since: number): Promise<boolean> => {
    let count = 0;
    for await (const event of readEvents(store, { signal })) if (event.type === type) count++;
    return count > since;
  };
  timeline.step(`${nodes.join(", ")} fall silent at once, and the cloud says that all of them are stopped`);
  const start = timeline.seconds;
  await Promise.all(nodes.map((node) => world.crash(node)));
  await scene.eventually("reclaim is paused", () => happened("reclaim-paused", 0));
  const paused = timeline.seconds - start;
  for (const node of nodes) {
    await scene.eventually(`${node} is suspect`, async () => (await scene.statusOf(node)) === "suspect");
  }
  timeline.done("reclaim is paused: nobody loses anything before somebody has looked");

  timeline.step("the nodes come back");
  for (const node of nodes) await world.restart(node);
  for (const node of nodes) {
    await scene.eventually(`${node} is ready`, async () => (await scene.statusOf(node)) === "ready");
  }
  await scene.eventually("reclaim goes on", () => happened("reclaim-resumed", 0));
  const after = await Promise.all(nodes.map((node) => scene.subnetOf(node)));
  check(after.join() === before.join(), `they own what they owned: ${after.join(", ")}`);
  timeline.done(`reclaim goes on; they own ${after.join(", ")} as before`);
  return `silence → paused ${paused.toFixed(1)} s`;
}
