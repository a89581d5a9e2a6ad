import { checkCluster, type Finding, planRepair, runRepair } from "@cocoon-net/controller";
import { encode, keys } from "@cocoon-net/core";
import { check, type Scene } from "../scene.ts";

const stray = "172.20.250.9";

/** The store says something that is not so; two checks agree on it, and a repair mends that and nothing else. */
export async function repair(scene: Scene): Promise<string> {
  const { timeline, store, signal } = scene;
  await scene.nodes(1);
  const look = async (): Promise<readonly Finding[]> => (await checkCluster({ store, signal })).findings;
  const isStray = ({ subject }: Finding): boolean => subject.includes(stray);
  await scene.eventually("the check finds nothing", async () => (await look()).length === 0);

  timeline.step(`somebody writes a lease of ${stray} into the store, an address of nobody's subnet`);
  const expiry = new Date(Date.now() + 3_600_000).toISOString();
  const lease = { node: "nobody", mac: "52:54:00:ff:ff:ff", expiry, seq: 1 };
  await store.txn({ then: [{ put: keys.pool(stray), value: encode(lease) }] }, { signal });
  const first = await checkCluster({ store, signal });
  const second = await checkCluster({ store, signal });
  const finding = second.findings.find(isStray);
  if (!finding) throw new Error("the check does not find it");
  timeline.done(`the check finds it: ${finding.message}`);

  timeline.step("a repair acts on what both checks have found");
  const plan = planRepair(first, second);
  check(plan.actions.length === 1, `the plan has one action, not ${plan.actions.length}`);
  const began = timeline.seconds;
  const { repaired } = await runRepair(store, plan, { signal });
  const took = timeline.seconds - began;
  check(repaired.length === 1, `one finding is repaired, not ${repaired.length}`);
  check((await store.get(keys.pool(stray))).entry === undefined, "the stray lease is gone");
  check((await look()).length === 0, "the check finds nothing any more");
  timeline.done("it is gone, and the check finds nothing any more");
  return `repaired in ${took.toFixed(1)} s`;
}
