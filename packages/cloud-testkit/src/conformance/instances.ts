import assert from "node:assert/strict";
import type { Check } from "./check.ts";
import { TestNode, until } from "./test-node.ts";

export function instanceChecks(check: Check): void {
  check("describeSelf names the instance that the program runs on", async (world) => {
    const first = world.addInstance();
    const second = world.addInstance();
    assert.equal((await (await world.cloudOn(first)).describeSelf()).instanceID, first);
    assert.equal((await (await world.cloudOn(second)).describeSelf()).instanceID, second);
  });

  check("describeInstance tells running, stopped and gone apart", async (world) => {
    const [observer, instance] = [world.addInstance(), world.addInstance()];
    const cloud = await world.cloudOn(observer);
    assert.equal(await cloud.describeInstance(instance), "running");
    world.stopInstance(instance);
    await until("stopped", async () => (await cloud.describeInstance(instance)) === "stopped");
    world.deleteInstance(instance);
    await until("gone", async () => (await cloud.describeInstance(instance)) === "gone");
    assert.equal(await cloud.describeInstance(observer), "running");
  });

  check("describeInstance says unknown of what is no instance id (G8)", async (world) => {
    const cloud = await world.cloudOn(world.addInstance());
    for (const id of ["", "garbage!", "../..", " "]) {
      assert.equal(await cloud.describeInstance(id), "unknown", `for "${id}"`);
    }
  });

  check("describeLimits says what the instance may have", async (world) => {
    const node = await TestNode.start(world, 0);
    const limits = await node.cloud.describeLimits(node.instance);
    const { assigns, nicsPerNode, addressesPerNIC, aliasRangesPerNIC, smallestBlock } = limits;
    assert.ok(Number.isInteger(smallestBlock) && smallestBlock > 0 && smallestBlock <= 32);
    const given = [nicsPerNode, addressesPerNIC, aliasRangesPerNIC].filter((limit) => limit !== undefined);
    for (const limit of given) assert.ok(Number.isInteger(limit) && limit > 0, JSON.stringify(limits));
    if (assigns === "addresses") assert.equal(aliasRangesPerNIC, undefined);
    else assert.equal(addressesPerNIC, undefined);
    assert.ok(assigns === "addresses" ? addressesPerNIC : aliasRangesPerNIC, JSON.stringify(limits));
  });
}
