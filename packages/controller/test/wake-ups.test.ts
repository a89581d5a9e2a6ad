import { pauseReclaim, requestReclaim, resumeReclaim } from "@cocoon-net/controller";
import { ManualClock } from "@cocoon-net/store-memory";
import { expect, test } from "vitest";
import { Alarm } from "../src/alarm.ts";
import { TestCluster, virtualClock } from "./test-cluster.ts";

/** Nothing but what happens and what is due makes this leader look. */
const hourly = { tickMs: 3_600_000 };

async function freeAfter(cluster: TestCluster, node: string): Promise<number> {
  const since = cluster.clock.now();
  const isFree = async () => (await cluster.history(node)).includes("subnet-freed");
  await cluster.until(`${node}'s block is free`, isFree);
  return cluster.clock.now() - since;
}

// Guards: Detection.dueAt, and the rings of the cloud's answers and of what the store shows.
test("a reclaim is done when it is due, though nobody looks again and again", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", hourly);
  await cluster.pass(2_000);
  await cluster.die(node);
  // 20 s of silence, 5 s between the two looks, 30 s of quarantine.
  expect(await freeAfter(cluster, "n1")).toBeLessThanOrEqual(55_500);
});

test("an operator's request and the end of a pause are seen at once", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", { ...hourly, policy: "manual" });
  const now = { now: () => cluster.date() };
  await cluster.silence(node);
  await cluster.pass(10_000);
  await requestReclaim(cluster.store, "n1", {}, now);
  await cluster.pass(20_000);
  await pauseReclaim(cluster.store, "maintenance", now);
  await cluster.pass(600_000);
  expect(await cluster.history("n1")).not.toContain("subnet-freed");
  await resumeReclaim(cluster.store, now);
  expect(await freeAfter(cluster, "n1")).toBeLessThanOrEqual(500);
});

test("many that fall silent together are called suspect a few at a time, not one after the other", async () => {
  await using cluster = await TestCluster.open();
  const nodes = [];
  for (let n = 0; n < 24; n++) nodes.push(await cluster.join(`n${n}`));
  const a = cluster.start("a", hourly);
  await cluster.pass(2_000);
  let underWay = 0;
  let most = 0;
  a.store.intercept = async (_, forward) => {
    most = Math.max(most, ++underWay);
    await new Promise<void>((resolve) => cluster.clock.after(100, resolve));
    underWay--;
    return await forward();
  };
  for (const node of nodes) await cluster.silence(node);
  // 3 s of silence, and a few writes after each other; 24 would take 2.4 s.
  await cluster.pass(3_800);
  for (const { name } of nodes) expect(await cluster.history(name)).toContain("node-suspect");
  expect(most).toBeLessThanOrEqual(10);
});

test("what happens while one looks is not slept over, and one who is not to be woken sleeps on", async () => {
  const time = new ManualClock();
  const alarm = new Alarm(virtualClock(time, 0));
  const { signal } = new AbortController();
  const woken: string[] = [];
  const { rings } = alarm;
  alarm.ring();
  void alarm.sleep(3_600_000, rings, signal).then(() => woken.push("missed one"));
  void alarm.sleep(3_600_000, alarm.rings, signal).then(() => woken.push("missed none"));
  await time.advance(1_000);
  expect(woken).toEqual(["missed one"]);
  alarm.ring();
  await time.advance(0);
  expect(woken).toEqual(["missed one", "missed none"]);
});

test("who sleeps wakes when the time is over, and rests a moment even when it is over already", async () => {
  const time = new ManualClock();
  const alarm = new Alarm(virtualClock(time, 0));
  const { signal } = new AbortController();
  const woken: number[] = [];
  for (const ms of [-1_000, 0, 700]) void alarm.sleep(ms, 0, signal).then(() => woken.push(time.now()));
  await time.advance(10_000);
  expect(woken).toEqual([50, 50, 700]);
});
