import assert from "node:assert/strict";
import { type CloudResource, contains, parseAddress, parseCidr } from "@cocoon-net/core";
import type { Check } from "./check.ts";
import { cluster, clusterTag, parentOf, TestNode } from "./test-node.ts";

export function resourceChecks(check: Check): void {
  check("listResources shows all that the cluster's nodes have, and whose it is", async (world) => {
    const nodes = [
      await TestNode.start(world, 0),
      await TestNode.start(world, 1),
      await TestNode.start(world, 2),
    ];
    const [observer, neighbour] = nodes;
    assert.ok(observer && neighbour);
    const parentCIDR = parentOf(nodes.map(({ block }) => block));
    const list = (tag: string) =>
      observer.cloud.listResources({
        tags: { [clusterTag]: tag },
        parentCIDR,
        instance: observer.instance,
      });
    assert.deepEqual(ofNodes(await list(cluster)), []);

    for (const node of nodes) await node.provision();
    const foreign = world.addForeign?.(neighbour.block);
    const found = ofNodes(await list(cluster));
    assert.equal(new Set(found.map(({ id }) => id)).size, found.length);
    assert.ok(foreign === undefined || !found.some(({ id }) => id === foreign));
    for (const node of nodes) {
      for (const [address, instanceID] of world.delivered(node.block)) {
        const having = found.filter((resource) => covers(resource, address));
        assert.deepEqual(
          having.map((resource) => resource.instanceID),
          [instanceID],
          address,
        );
      }
    }
    for (const resource of found) {
      const node = nodes.find(({ instanceID }) => instanceID === resource.instanceID);
      assert.ok(node, JSON.stringify(resource));
      assert.equal(resource.warm, false);
      assert.equal(resource.node ?? node.name, node.name);
      assert.equal(resource.madeFor ?? node.instanceID, node.instanceID);
    }
    // What carries tags is told apart by them.
    const others = ofNodes(await list("another"));
    assert.deepEqual(
      [...new Set(others.map(({ kind }) => kind))].filter((kind) => kind !== "alias"),
      [],
    );
  });

  check("listResources shows what is kept warm", async (world) => {
    const node = await TestNode.start(world, 0);
    const network = await node.provision();
    world.deleteInstance(node.instanceID);
    const next = await TestNode.start(world, 1);
    assert.equal((await next.cloud.fence(node.target(network), node.job())).verified, true);
    const target = node.target(network, { keepWarm: network.eniIDs.length });
    const { warm = [] } = await next.cloud.release(target, node.job());
    const found = await next.cloud.listResources({
      tags: { [clusterTag]: cluster },
      parentCIDR: parentOf([node.block, next.block]),
      instance: next.instance,
    });
    const shown = found.filter((resource) => resource.warm);
    assert.deepEqual(shown.map(({ id }) => id).sort(), [...warm].sort());
    for (const resource of shown) assert.equal(resource.instanceID, undefined);
  });
}

/** Without the subnets, which outlive nodes. */
function ofNodes(resources: readonly CloudResource[]): CloudResource[] {
  return resources.filter(({ kind }) => kind !== "subnet");
}

function covers({ addresses }: CloudResource, address: string): boolean {
  const single = { base: parseAddress(address), prefix: 32 };
  return addresses.some((held) => contains(parseCidr(held.includes("/") ? held : `${held}/32`), single));
}
