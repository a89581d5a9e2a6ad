import assert from "node:assert/strict";
import { type Check, longMs } from "./check.ts";
import { checkNetwork, TestNode } from "./test-node.ts";
import type { LimitedWorld } from "./world.ts";

const nodes = 6;

async function provisionAll(world: LimitedWorld): Promise<void> {
  const all = await Promise.all(Array.from({ length: nodes }, (_, n) => TestNode.start(world, n)));
  const networks = await Promise.all(all.map((node) => node.provision({ poolSize: 4 })));
  for (const [index, node] of all.entries()) {
    const network = networks[index];
    assert.ok(network);
    checkNetwork(world, node, network, 4);
  }
}

export function rateLimitChecks(check: (budget: "fitting" | "generous") => Check<LimitedWorld>): void {
  check("fitting")(
    "a budget of the account's rates completes everything, and nothing is refused",
    async (world) => {
      await provisionAll(world);
      assert.equal(world.refused, 0);
    },
    longMs,
  );

  check("generous")(
    "a budget beyond the account's rates completes everything, and slows down",
    async (world) => {
      await provisionAll(world);
      assert.ok(world.refused > 0, "the account was never asked too often: the test shows nothing");
    },
    longMs,
  );
}
