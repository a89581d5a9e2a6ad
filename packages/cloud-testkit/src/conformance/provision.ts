import assert from "node:assert/strict";
import type { NodeNetwork } from "@cocoon-net/core";
import { RecordedJob } from "../recorded-job.ts";
import { type Check, longMs } from "./check.ts";
import { killedAtEachStep, stoppedAtEachRequest } from "./interruptions.ts";
import { checkNetwork, poolSize, sorted, TestNode } from "./test-node.ts";

export function provisionChecks(check: Check): void {
  check("gives as many addresses as were asked for, and the cloud delivers them", async (world) => {
    const node = await TestNode.start(world, 0);
    checkNetwork(world, node, await node.provision());
  });

  check("run again, it confirms the same and makes nothing", async (world) => {
    const node = await TestNode.start(world, 0);
    const first = await node.provision();
    const resources = world.resources(node.block);
    const second = await node.provision();
    assert.deepEqual(sorted(second), sorted(first));
    assert.deepEqual([...world.resources(node.block)].sort(), [...resources].sort());
  });

  check("two nodes at once get disjoint addresses", async (world) => {
    const [one, two] = [await TestNode.start(world, 0), await TestNode.start(world, 1)];
    const [first, second] = await Promise.all([one.provision(), two.provision()]);
    checkNetwork(world, one, first);
    checkNetwork(world, two, second);
  });

  check(
    "killed at any recorded step and run again, it ends as if it had not been (G11)",
    async (world) => {
      const model = await TestNode.start(world, 0);
      const job = model.job();
      await model.provision({}, job);
      const resources = world.resources(model.block).length;
      let block = 0;
      await killedAtEachStep(job.calls, async (die) => {
        const node = await TestNode.start(world, ++block);
        const rest = await die((dying) => node.provision({}, dying));
        checkNetwork(world, node, await node.provision({}, rest.job));
        assert.equal(world.resources(node.block).length, resources, rest.where);
      });
    },
    longMs,
  );

  check(
    "stopped before and after any request and run again, it ends as if it had not been (G11)",
    async (world) => {
      const model = await TestNode.start(world, 0);
      await model.provision();
      const resources = world.resources(model.block).length;
      let block = 0;
      await stoppedAtEachRequest(world, async (stop) => {
        const node = await TestNode.start(world, ++block);
        const rest = await stop((job, signal) => node.provision({}, job, signal));
        checkNetwork(world, node, await node.provision({}, rest?.job));
        assert.equal(world.resources(node.block).length, resources, rest?.where);
      });
    },
    longMs,
  );

  check("stops at once when it is aborted", async (world) => {
    const node = await TestNode.start(world, 0);
    const reason = new Error("enough");
    await assert.rejects(node.provision({}, node.job(), AbortSignal.abort(reason)), reason);
    assert.deepEqual(world.resources(node.block), []);
  });
}

export function growthChecks(check: Check): void {
  check("to a larger pool keeps what there is and adds the rest", async (world) => {
    const node = await TestNode.start(world, 0);
    const before = await node.provision();
    const more = { poolSize: poolSize + 20 };
    const after = await node.provision(more);
    checkNetwork(world, node, after, more.poolSize);
    assert.deepEqual(
      before.addresses.filter((address) => !after.addresses.includes(address)),
      [],
    );
    const resources = [...world.resources(node.block)].sort();
    assert.deepEqual(sorted(await node.provision(more)), sorted(after));
    assert.deepEqual([...world.resources(node.block)].sort(), resources);
  });

  check("to a smaller pool takes nothing away", async (world) => {
    const node = await TestNode.start(world, 0);
    const before = await node.provision();
    const after = await node.provision({ poolSize: 1 });
    checkNetwork(world, node, before);
    const { assigns } = await node.cloud.describeLimits(node.instance);
    // Where a whole block is the node's, the pool is what was asked for of it.
    checkNetwork(world, node, after, assigns === "addresses" ? poolSize : 1);
  });

  check("gives the addresses that are named, to a new node and to one that has some", async (world) => {
    const node = await TestNode.start(world, 0);
    const named = [node.address(100), node.address(101)];
    const first = await node.provision({ addresses: named });
    checkNetwork(world, node, first);
    for (const address of named) assert.ok(first.addresses.includes(address), address);

    const others = [...named, node.address(120)];
    const second = await node.provision({ addresses: others });
    checkNetwork(world, node, second);
    checkNetwork(world, node, first);
    for (const address of others) assert.ok(second.addresses.includes(address), address);
  });

  check(
    "killed at any recorded step and run again, it ends as if it had not been (G11)",
    async (world) => {
      const model = await TestNode.start(world, 0);
      await model.provision({ poolSize: 3 });
      const named = { poolSize: 30, addresses: [model.address(100)] };
      const job = new RecordedJob("model");
      await model.provision(named, job);
      const resources = world.resources(model.block).length;
      if (job.calls === 0) return; // whole blocks: there is nothing to add
      let block = 0;
      await killedAtEachStep(job.calls, async (die) => {
        const node = await TestNode.start(world, ++block);
        await node.provision({ poolSize: 3 });
        const wanted = { ...named, addresses: [node.address(100)] };
        const rest = await die((dying) => node.provision(wanted, dying));
        const grown = await node.provision(wanted, rest.job);
        checkNetwork(world, node, grown, named.poolSize);
        assert.ok(grown.addresses.includes(node.address(100)), rest.where);
        assert.equal(world.resources(node.block).length, resources, rest.where);
      });
    },
    longMs,
  );

  check("beyond what the instance may have gives what fits, and says so", async (world) => {
    const node = await TestNode.start(world, 0);
    const { nicsPerNode, addressesPerNIC } = await node.cloud.describeLimits(node.instance);
    if (nicsPerNode === undefined || addressesPerNIC === undefined) return; // whole blocks
    const most = nicsPerNode * addressesPerNIC;
    const network = await node.provision({ poolSize: most + 1 });
    checkNetwork(world, node, network, most);
    assert.equal(network.short?.addresses, 1);
    assert.ok(network.short.reason);
  });
}

export function shrinkChecks(check: Check): void {
  check("takes exactly the addresses that are named, and passes over what is not there", async (world) => {
    const node = await TestNode.start(world, 0);
    const before = await node.provision();
    const { assigns } = await node.cloud.describeLimits(node.instance);
    const unwanted = before.addresses.filter((_, index) => index % 5 === 1);
    const named = [...unwanted, node.address(250)];
    const gone = assigns === "addresses" ? unwanted : [];
    const stay = before.addresses.filter((address) => !gone.includes(address));
    for (let run = 0; run < 2; run++) {
      const after = await node.cloud.shrink(node.target(before), named, node.job());
      checkNetwork(world, node, after, stay.length);
      for (const address of stay) assert.ok(after.addresses.includes(address), address);
      for (const address of gone) {
        assert.ok(!after.addresses.includes(address), address);
        assert.equal(world.delivered(node.block).get(address), undefined, address);
      }
    }
  });

  check(
    "killed at any recorded step and run again, it ends as if it had not been (G11)",
    async (world) => {
      const node = await TestNode.start(world, 0);
      const { assigns } = await node.cloud.describeLimits(node.instance);
      if (assigns === "block") return; // nothing is taken
      const everyThird = (network: NodeNetwork) => network.addresses.filter((_, index) => index % 3 === 0);
      const model = await node.provision();
      const job = node.job();
      await node.cloud.shrink(node.target(model), everyThird(model), job);
      await killedAtEachStep(job.calls, async (die) => {
        const network = await node.provision();
        const unwanted = everyThird(network);
        const target = node.target(network);
        const rest = await die((dying) => node.cloud.shrink(target, unwanted, dying));
        const after = await node.cloud.shrink(target, unwanted, rest.job);
        assert.deepEqual(
          after.addresses,
          network.addresses.filter((address) => !unwanted.includes(address)),
          rest.where,
        );
        checkNetwork(world, node, after, after.addresses.length);
      });
    },
    longMs,
  );
}
