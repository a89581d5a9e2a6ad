import { requestMigration } from "@cocoon-net/controller";
import { expect, test } from "vitest";
import { SimulatedAgent } from "./simulated-agent.ts";
import { TestCluster } from "./test-cluster.ts";

// Guard: packages/controller/src/jobs.ts, Jobs.isResting: no address waits longer than for the quarantine of its server.
test.each([
  [2, false],
  [2, true],
  [3, false],
])(
  "%i nodes that each serve an address of the next die: all are reclaimed (another leader meanwhile: %s)",
  async (size, isKilled) => {
    await using cluster = await TestCluster.open();
    const nodes = [];
    for (let index = 0; index < size; index++) nodes.push(await cluster.join(`n${index}`));
    // One that lives on: mass silence is not what this is about.
    for (let index = size; index < 20; index++) await cluster.join(`n${index}`);
    const agents = nodes.map((node) => new SimulatedAgent(cluster.store, node));
    const ips = nodes.map(({ registration }) => registration.subnet.replace(/0\/24$/, "2"));
    const a = cluster.start("a");
    for (const [index, ip] of ips.entries()) {
      const to = `n${(index + size - 1) % size}`;
      await requestMigration(cluster.store, { ip, to }, { now: () => cluster.date() });
      await cluster.until(
        `${ip} is at ${to}`,
        async () => !Object.keys(await cluster.records()).some((key) => key.startsWith("intents/")),
      );
    }
    for (const agent of agents) await agent.stop();
    for (const node of nodes) await cluster.die(node);
    const isLeft = async (prefix: string) =>
      Object.keys(await cluster.records()).filter((key) => key.startsWith(prefix));
    await cluster.until(
      "all rest",
      async () =>
        (await isLeft("quarantine/")).length === size && (await isLeft("pool/10.0.0.")).length === 0,
    );
    // What has not rested stays on record (G5).
    await cluster.pass(20_000);
    expect(await isLeft("moved/")).toHaveLength(size);
    if (isKilled) {
      a.kill();
      cluster.start("b");
      // It did not see the quarantine begin, and waits for all of it.
      await cluster.pass(25_000);
      expect(await isLeft("moved/")).toHaveLength(size);
    }
    await cluster.until("all are free", async () => (await isLeft("quarantine/")).length === 0, 300_000);
    expect(await isLeft("moved/")).toEqual([]);
    expect([...cluster.vpc.holders.values()].filter((holder) => holder !== undefined)).toEqual([]);
  },
);
