import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";

/** When a client sends again, at the earliest: udhcpc by default, and by RFC 2131 §4.1 (4 s, give or take one). */
const retransmitMs = 3_000;

it("a restart of the daemon costs a client that boots or renews meanwhile at most one retransmit", {
  timeout: 180_000,
}, async () => {
  await using node = await AgentNode.create();
  await node.adopt("--subnet", "10.99.0.0/24");
  const before = await node.daemon();
  const guests = await Promise.all(Array.from({ length: 8 }, () => node.guest()));
  const [renewing, booting] = [guests.slice(0, 4), guests.slice(4)];
  const options = { retransmitMs };
  await Promise.all(renewing.map((guest) => guest.boot(options)));

  /** At some moment of the second around the stop. */
  const sometime = async (act: () => Promise<string>): Promise<string> => {
    await pause(Math.random() * 1_000);
    return act();
  };
  const earlier = guests.map((guest) => guest.retransmits);
  const clients = Promise.all([
    ...renewing.map((guest) => sometime(() => guest.renew())),
    ...booting.map((guest) => sometime(() => guest.boot(options))),
  ]);
  await pause(200);
  const stopped = performance.now();
  expect(await before.kill()).toBe("exit code 0");
  const after = await node.daemon();
  const gapMs = performance.now() - stopped;
  expect(new Set(await clients).size).toBe(guests.length);

  const again = guests.map((guest, index) => guest.retransmits - (earlier[index] ?? 0));
  const late = again.filter((count) => count > 0).length;
  console.log(
    `nobody served for ${Math.round(gapMs)} ms; ${late} of ${guests.length} clients sent again: ${again.join(" ")}`,
  );
  // One, as long as the gap is shorter than what a client waits; on a machine that stands still it may be longer.
  expect(Math.max(...again)).toBeLessThanOrEqual(1 + Math.floor(gapMs / retransmitMs));
  for (const guest of renewing) {
    expect((await guest.events()).map((line) => line.split(" ")[0])).toEqual(["deconfig", "bound", "renew"]);
  }
  expect(await after.kill()).toBe("exit code 0");
});
