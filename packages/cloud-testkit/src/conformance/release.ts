import assert from "node:assert/strict";
import type { NodeNetwork, NodeResources, ReleaseResult } from "@cocoon-net/core";
import { type Check, longMs } from "./check.ts";
import { killedAtEachStep, stoppedAtEachRequest } from "./interruptions.ts";
import { checkNetwork, TestNode } from "./test-node.ts";
import type { CloudWorld } from "./world.ts";

export function releaseChecks(check: Check): void {
  check("leaves nothing of the node, and all of the others", async (world) => {
    const [node, neighbour] = [await TestNode.start(world, 0), await TestNode.start(world, 1)];
    const network = await node.provision();
    const untouched = await neighbour.provision();
    const foreign = world.addForeign?.(node.block);
    world.deleteInstance(node.instanceID);
    const target = node.target(network);
    const result = await neighbour.cloud.release(target, node.job());
    assert.deepEqual(result.remaining, []);
    for (const eniID of network.eniIDs) assert.ok(result.released.includes(eniID), eniID);
    assert.deepEqual(world.resources(node.block), foreign === undefined ? [] : [foreign]);
    checkNetwork(world, neighbour, untouched);

    assert.deepEqual((await neighbour.cloud.release(target, node.job())).remaining, []);
  });

  check("does not take what was recorded by mistake but belongs to another node (G11)", async (world) => {
    const [node, neighbour] = [await TestNode.start(world, 0), await TestNode.start(world, 1)];
    const network = await node.provision();
    const theirs = await neighbour.provision();
    const target = node.target({ ...network, eniIDs: [...network.eniIDs, ...theirs.eniIDs] });
    const result = await neighbour.cloud.release(target, node.job());
    assert.deepEqual(result.remaining.map(({ id }) => id).sort(), [...theirs.eniIDs].sort());
    checkNetwork(world, neighbour, theirs);
  });

  check("does not take what another instance has in the block (G11)", async (world) => {
    const [node, neighbour] = [await TestNode.start(world, 0), await TestNode.start(world, 1)];
    const theirs = await neighbour.provision();
    const target = { ...node.target({}), subnet: neighbour.block };
    await node.cloud.release(target, node.job());
    checkNetwork(world, neighbour, theirs);
    const { verified } = await node.cloud.fence(target, node.job());
    assert.equal(verified, false);
    checkNetwork(world, neighbour, theirs);
  });

  check("undoes what a killed provision has left behind", async (world) => {
    const model = await TestNode.start(world, 0);
    const job = model.job();
    await model.provision({}, job);
    let block = 0;
    await killedAtEachStep(job.calls, async (die) => {
      const node = await TestNode.start(world, ++block);
      const { where } = await die((dying) => node.provision({}, dying));
      // Only the seed was on record: no ids of what was made are known.
      assert.deepEqual((await node.cloud.release(node.target({}), node.job())).remaining, [], where);
      assert.deepEqual(world.resources(node.block), [], where);
    });
  });

  check(
    "killed at any recorded step and run again, it ends as if it had not been (G11)",
    async (world) => {
      const model = await TestNode.start(world, 0);
      const job = model.job();
      await model.cloud.release(model.target(await model.provision()), job);
      await killedAtEachStep(job.calls, async (die) => {
        const node = await TestNode.start(world, 0);
        const target = node.target(await node.provision());
        const rest = await die((dying) => node.cloud.release(target, dying));
        const { remaining } = await node.cloud.release(target, rest.job);
        assert.deepEqual(remaining, [], rest.where);
        assert.deepEqual(world.resources(node.block), [], rest.where);
      });
    },
    longMs,
  );

  check(
    "stopped before and after any request and run again, it ends as if it had not been (G11)",
    async (world) => {
      await stoppedAtEachRequest(world, async (stop) => {
        const node = await TestNode.start(world, 0);
        const target = node.target(await node.provision());
        const rest = await stop((job, signal) => node.cloud.release(target, job, { signal }));
        const { remaining } = await node.cloud.release(target, rest?.job ?? node.job());
        assert.deepEqual(remaining, [], rest?.where);
        assert.deepEqual(world.resources(node.block), [], rest?.where);
      });
    },
    longMs,
  );

  check("a block that was given back serves the next node", async (world) => {
    const node = await TestNode.start(world, 0);
    const target = node.target(await node.provision());
    world.deleteInstance(node.instanceID);
    const next = await TestNode.start(world, 0);
    assert.equal((await next.cloud.fence(target, node.job())).verified, true);
    assert.deepEqual((await next.cloud.release(target, node.job())).remaining, []);
    checkNetwork(world, next, await next.provision());
  });
}

/** A node that is gone, with the cloud of the one that comes next in its block. */
async function deadNode(
  world: CloudWorld,
): Promise<{ node: TestNode; network: NodeNetwork; next: TestNode; target: NodeResources }> {
  const node = await TestNode.start(world, 0);
  const network = await node.provision();
  world.deleteInstance(node.instanceID);
  const next = await TestNode.start(world, 0);
  const target = node.target(network);
  assert.equal((await next.cloud.fence(target, node.job())).verified, true);
  return { node, network, next, target };
}

export function warmChecks(check: Check): void {
  check("keeps as many NICs as it is told, and the next node gets them", async (world) => {
    const { node, network, next, target } = await deadNode(world);
    const keepWarm = network.eniIDs.length;
    const kept = await next.cloud.release({ ...target, keepWarm }, node.job());
    checkKept(kept, network, keepWarm);
    assert.deepEqual([...world.resources(node.block)].sort(), [...network.eniIDs].sort());
    assert.equal(world.delivered(node.block).size, 0);

    const taken = await next.provision();
    checkNetwork(world, next, taken);
    assert.deepEqual([...taken.eniIDs].sort(), [...network.eniIDs].sort());
    assert.deepEqual(taken.addresses.slice(0, network.addresses.length), network.addresses);

    const { remaining } = await next.cloud.release(next.target(taken), next.job());
    assert.deepEqual(remaining, []);
    assert.deepEqual(world.resources(node.block), []);
  });

  check("keeps no more than that, and deletes them when it is asked again for none", async (world) => {
    const { node, network, next, target } = await deadNode(world);
    const keepWarm = Math.min(1, network.eniIDs.length);
    checkKept(await next.cloud.release({ ...target, keepWarm }, node.job()), network, keepWarm);
    assert.equal(world.resources(node.block).length, keepWarm);
    checkKept(await next.cloud.release(target, node.job()), network, 0);
    assert.deepEqual(world.resources(node.block), []);
  });

  check(
    "killed at any recorded step and run again, it ends as if it had not been (G11)",
    async (world) => {
      const model = await deadNode(world);
      const keepWarm = Math.min(1, model.network.eniIDs.length);
      if (keepWarm === 0) return; // there are no NICs
      const job = model.node.job();
      await model.next.cloud.release({ ...model.target, keepWarm }, job);
      await model.next.cloud.release(model.target, model.node.job());
      await killedAtEachStep(job.calls, async (die) => {
        const { node, network, next, target } = await deadNode(world);
        const warm = { ...target, keepWarm };
        const rest = await die((dying) => next.cloud.release(warm, dying));
        checkKept(await next.cloud.release(warm, rest.job), network, keepWarm);
        assert.equal(world.resources(node.block).length, keepWarm, rest.where);
        assert.deepEqual((await next.cloud.release(target, node.job())).remaining, []);
      });
    },
    longMs,
  );
}

function checkKept({ warm = [], remaining }: ReleaseResult, network: NodeNetwork, count: number): void {
  assert.deepEqual(remaining, []);
  assert.equal(warm.length, count);
  for (const id of warm) assert.ok(network.eniIDs.includes(id), id);
}
