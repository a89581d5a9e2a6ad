import type { ProvisionRequest } from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { eniName, eniNumber, eniTags, subnetName, subnetOwner, subnetTags } from "../src/ownership.ts";
import { NodeFixture } from "./node-fixture.ts";
import { patience, VolcengineWorld } from "./volcengine-world.ts";

describe("release, told of ENIs that are not the node's, reports and keeps them (G11)", () => {
  it.each([
    ["without our tag", {}, /carries no cocoon-net:instance tag/],
    [
      "of another instance",
      { "cocoon-net:instance": "i-other", "cocoon-net:node": "n1" },
      /instance i-other/,
    ],
  ])("%s", async (_, tags, reason) => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    const subnetID = world.subnetID(world.block(0));
    const { eniID } = world.simulator.addEni({ subnetID, addresses: ["172.20.0.250"], tags });
    const target = node.target({ ...network, eniIDs: [...network.eniIDs, eniID] });
    const result = await node.cloud.release(target, node.job());
    expect(result.remaining).toEqual([{ id: eniID, reason: expect.stringMatching(reason) }]);
    expect(world.resources(world.block(0))).toEqual([eniID]);
  });

  it("the primary ENI, recorded by mistake", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const primary = world.simulator.describeState().instances[0]?.primaryEniID ?? "";
    const result = await node.cloud.release(node.target({ eniIDs: [primary] }), node.job());
    expect(result.remaining).toMatchObject([{ id: primary }]);
    expect(world.simulator.calls.DetachNetworkInterface).toBeUndefined();
  });

  it("one of ours that somebody has attached to another instance", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    const other = world.addInstance();
    const { eniID } = world.simulator.addEni({
      subnetID: world.subnetID(world.block(0)),
      instanceID: other,
      addresses: ["172.20.0.250"],
      tags: { "cocoon-net:instance": node.instanceID },
    });
    const result = await node.cloud.release(node.target(), node.job());
    expect(result.remaining).toEqual([{ id: eniID, reason: `it is attached to ${other}` }]);
  });
});

it("a name that came back on another instance inherits nothing (G12)", async () => {
  await using world = await VolcengineWorld.open();
  const [old, reborn] = [await NodeFixture.start(world), await NodeFixture.start(world)];
  await old.provision();
  world.deleteInstance(old.instanceID);
  await expect.poll(() => world.delivered(world.block(0)).size, patience).toBe(0);
  const network = await reborn.provision();
  expect(network.addresses).toHaveLength(25);
  // The dead node's job is late: it must not take what its successor uses.
  const result = await reborn.cloud.release(old.target(), old.job());
  expect(result.remaining).toEqual([]);
  expect([...world.resources(world.block(0))].sort()).toEqual([...network.eniIDs].sort());
});

describe("names and tags", () => {
  const request: ProvisionRequest = {
    node: "n1",
    instance: { instanceID: "i-1", zone: "z", region: "r", network: "vpc-1" },
    subnet: "10.0.0.0/24",
    poolSize: 1,
    tags: { "cocoon-net:cluster": "c", "cocoon-net:node": "n1" },
  };
  const subnet = { subnetID: "s", vpcID: "v", zone: "z", cidr: "10.0.0.0/24", status: "Available" };
  const counts = { freeAddresses: 1, totalAddresses: 1 };

  it("an ENI's number is read from its name, for its own node only", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 200 }), fc.nat(100), (node, number) => {
        const name = eniName(node, number);
        expect(name.length).toBeLessThanOrEqual(128);
        expect(eniNumber(node, name)).toBe(number);
        const other = `x${node}`;
        fc.pre(eniName(other, number) !== name);
        expect(eniNumber(other, name)).toBeUndefined();
      }),
    );
    expect(eniNumber("n1", "n1-eni-x")).toBeUndefined();
  });

  it("ENIs are tagged with the node, subnets only with the cluster", () => {
    expect(eniTags(request, "j")).toEqual({
      "cocoon-net:cluster": "c",
      "cocoon-net:node": "n1",
      "cocoon-net:instance": "i-1",
      "cocoon-net:job": "j",
    });
    expect(subnetTags(request)).toEqual({ "cocoon-net:cluster": "c" });
  });

  it("a subnet left by another node of the cluster may be used", () => {
    const left = { ...subnet, ...counts, name: subnetName("n2"), tags: { "cocoon-net:cluster": "c" } };
    expect(subnetOwner(request, left)).toBeUndefined();
    expect(subnetOwner(request, { ...left, tags: {} })).toBe("the node n2");
    expect(subnetOwner({ ...request, tags: {} }, left)).toBe("the cluster c");
  });
});
