import assert from "node:assert/strict";
import { type Check, longMs } from "./check.ts";
import { stoppedAtEachRequest } from "./interruptions.ts";
import { Move } from "./test-move.ts";
import { TestNode, until } from "./test-node.ts";

export function fenceChecks(check: Check): void {
  for (const end of ["stopInstance", "deleteInstance"] as const) {
    check(`after ${end}, nothing of the block is delivered and the cloud says so (G5)`, async (world) => {
      const node = await TestNode.start(world, 0);
      const network = await node.provision();
      world[end](node.instanceID);
      const observer = await world.cloudOn(world.addInstance());
      await until(end, async () => (await observer.describeInstance(node.instanceID)) !== "running");
      for (let run = 0; run < 2; run++) {
        const { verified, evidence } = await observer.fence(node.target(network), node.job());
        assert.equal(verified, true, evidence);
        assert.equal(world.delivered(node.block).size, 0);
      }
    });
  }

  check("of a running instance takes its addresses too (G5)", async (world) => {
    const node = await TestNode.start(world, 0);
    const network = await node.provision();
    const observer = await world.cloudOn(world.addInstance());
    const { verified, evidence } = await observer.fence(node.target(network), node.job());
    assert.equal(verified, true, evidence);
    assert.equal(world.delivered(node.block).size, 0);
  });

  check(
    "stopped before and after any request and run again, it ends as if it had not been (G11)",
    async (world) => {
      const observer = await world.cloudOn(world.addInstance());
      const node = await TestNode.start(world, 0);
      await stoppedAtEachRequest(world, async (stop) => {
        const target = node.target(await node.provision());
        const rest = await stop((job, signal) => observer.fence(target, job, { signal }));
        const { verified, evidence } = await observer.fence(target, rest?.job ?? node.job());
        assert.equal(verified, true, `${rest?.where}: ${evidence}`);
        assert.equal(world.delivered(node.block).size, 0, rest?.where);
      });
    },
    longMs,
  );

  check("is not verified while another instance holds an address of the block (G5)", async (world) => {
    const node = await TestNode.start(world, 0);
    const network = await node.provision();
    const other = world.addInstance();
    world.deleteInstance(node.instanceID);
    const observer = await world.cloudOn(other);
    await until("gone", async () => (await observer.describeInstance(node.instanceID)) === "gone");
    await until("free", async () => world.delivered(node.block).size === 0);
    world.attachForeign(node.block, other);
    const { verified, evidence } = await observer.fence(node.target(network), node.job());
    assert.equal(verified, false);
    assert.match(evidence, new RegExp(other));
    assert.deepEqual([...new Set(world.delivered(node.block).values())], [other]);
  });

  check("leaves alone what was moved away on purpose, and only that", async (world) => {
    const move = await Move.prepare(world);
    const there = await move.there();
    const { from, to, address, home, observer } = move;
    const blind = await observer.fence(from.target(home), from.job());
    assert.equal(blind.verified, false, blind.evidence);
    const target = from.target(home, { movedAway: [address] });
    const { verified, evidence } = await observer.fence(target, from.job());
    assert.equal(verified, true, evidence);
    assert.equal(world.delivered(from.block).get(address), to.instanceID);
    for (const other of home.addresses) {
      if (other !== address) assert.equal(world.delivered(from.block).get(other), undefined, other);
    }
    assert.ok(there.network.addresses.includes(address));
  });

  check("and release cover what was moved in", async (world) => {
    const move = await Move.prepare(world);
    const there = await move.there();
    const { from, to, address, home, observer } = move;
    const target = to.target(there.network, { movedIn: [address] });
    const { verified, evidence } = await observer.fence(target, to.job());
    assert.equal(verified, true, evidence);
    assert.equal(world.delivered(to.block).size, 0);
    assert.ok(![...world.delivered(from.block).values()].includes(to.instanceID));
    assert.deepEqual((await observer.release(target, to.job())).remaining, []);
    const rest = from.target(home, { movedAway: [address] });
    assert.equal((await observer.fence(rest, from.job())).verified, true);
    assert.deepEqual((await observer.release(rest, from.job())).remaining, []);
    assert.deepEqual([...world.resources(from.block), ...world.resources(to.block)], []);
  });
}
