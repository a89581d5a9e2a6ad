import { ConflictError, ExhaustedError, InvalidError, NotFoundError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { cluster, NodeFixture } from "./node-fixture.ts";
import { patience, VolcengineWorld } from "./volcengine-world.ts";

describe("provision: pool size", () => {
  it.each([
    [1, [1]],
    [20, [20]],
    [45, [20, 20, 5]],
    [140, [20, 20, 20, 20, 20, 20, 20]],
  ])("gets %i addresses on as few ENIs as possible", async (poolSize, secondaries) => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize });
    const network = await node.provision();
    expect(network.addresses).toHaveLength(poolSize);
    expect(network.nicMACs).toHaveLength(secondaries.length);
    const enis = world.simulator.describeState().enis.filter((eni) => eni.subnet === world.block(0));
    expect(enis.map((eni) => eni.addresses.length - 1)).toEqual(secondaries);
    expect(enis.map((eni) => eni.mac)).toEqual(network.nicMACs);
    // The addresses come with the ENI, in one call.
    expect(world.simulator.calls.CreateNetworkInterface).toBe(secondaries.length);
    expect(world.simulator.calls.AssignPrivateIpAddresses).toBeUndefined();
  });

  it("gives what the instance can hold, and says what is missing", async () => {
    await using world = await VolcengineWorld.open({ limits: { enisPerInstance: 3, addressesPerEni: 11 } });
    const node = await NodeFixture.start(world, { poolSize: 30 });
    expect((await node.provision()).addresses).toHaveLength(20);
    expect(node.progress.join("\n")).toContain("10 addresses smaller than asked");
  });

  it("gives what the subnet can hold", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { subnet: "172.20.9.0/28", poolSize: 30 });
    // 16 addresses, 3 of the platform, 1 primary.
    expect((await node.provision()).addresses).toHaveLength(12);
  });

  it("grows by filling what is there, then by another ENI", async () => {
    await using world = await VolcengineWorld.open();
    const small = await NodeFixture.start(world, { poolSize: 5 });
    await small.provision();
    const grown = { ...small.request, poolSize: 30 };
    const network = await small.cloud.provision(grown, small.job());
    expect(network.addresses).toHaveLength(30);
    expect(network.eniIDs).toHaveLength(2);
    expect(world.simulator.calls.AssignPrivateIpAddresses).toBe(1);
  });

  it("refuses a pool size that is no number of addresses", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 0 });
    await expect(node.provision()).rejects.toThrow(InvalidError);
    expect(world.simulator.calls.CreateSubnet).toBeUndefined();
  });
});

describe("provision: subnet", () => {
  it("is made once, named for the node, tagged for the cluster", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    await node.provision();
    const subnets = world.simulator
      .describeState()
      .subnets.filter((subnet) => subnet.cidr === world.block(0));
    expect(subnets).toMatchObject([{ name: "n1-vms", tags: { "cocoon-net:cluster": cluster } }]);
    expect(world.simulator.calls.CreateSubnet).toBe(1);
  });

  it.each([
    ["of another cluster", { name: "n1-vms", tags: { "cocoon-net:cluster": "other" } }, /cluster other/],
    ["named for another node", { name: "n2-vms" }, /node n2/],
    ["in another zone", { zone: "cn-beijing-b", name: "" }, /cn-beijing-b/],
    ["that only overlaps", { cidr: "172.20.0.0/23", name: "" }, /overlaps/],
  ])("refuses one %s", async (_, subnet, message) => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.addSubnet({ cidr: world.block(0), ...subnet });
    const failure = node.provision();
    await expect(failure).rejects.toThrow(ConflictError);
    await expect(failure).rejects.toThrow(message);
    expect(world.simulator.calls.CreateNetworkInterface).toBeUndefined();
  });

  it("refuses one in which another instance has an ENI", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const other = world.addInstance();
    world.attachForeign(world.block(0), other);
    await expect(node.provision()).rejects.toThrow(other);
  });

  it("takes one that was made by hand and is nobody's", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const subnetID = world.simulator.addSubnet({ cidr: world.block(0), name: "vm-range" });
    expect((await node.provision()).subnetID).toBe(subnetID);
  });

  it("waits for its turn while others make subnets in the VPC", async () => {
    await using world = await VolcengineWorld.open({ delays: { createSubnetMs: 30 } });
    const starting = [0, 1, 2, 3].map((n) =>
      NodeFixture.start(world, { node: `n${n}`, subnet: world.block(n) }),
    );
    const nodes = await Promise.all(starting);
    const networks = await Promise.all(nodes.map((node) => node.provision()));
    expect(new Set(networks.flatMap((network) => network.addresses)).size).toBe(100);
  });
});

describe("provision: ENIs", () => {
  it("carry the tags, and the security groups of the primary ENI", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const job = node.job();
    const network = await node.provision(job);
    const enis = world.simulator.describeState().enis.filter((eni) => network.eniIDs.includes(eni.eniID));
    for (const eni of enis) {
      expect(eni.securityGroupIDs).toEqual([world.simulator.securityGroupID]);
      expect(eni.tags).toEqual({
        "cocoon-net:cluster": cluster,
        "cocoon-net:node": "n1",
        "cocoon-net:instance": node.instanceID,
        "cocoon-net:job": job.id,
      });
    }
  });

  it("takes over those that were made for the node before ENIs were tagged", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 5 });
    const eni = world.simulator.addEni({
      subnetID: world.subnetID(world.block(0)),
      instanceID: node.instanceID,
      addresses: ["172.20.0.10", "172.20.0.11", "172.20.0.12"],
      name: "n1-eni-1",
    });
    const network = await node.provision();
    expect(network.eniIDs).toEqual([eni.eniID]);
    expect(network.addresses).toHaveLength(5);
    const result = await node.cloud.release(node.target(network), node.job());
    expect(result).toEqual({ released: [eni.eniID], remaining: [] });
  });

  it("leaves another program's ENI on the instance alone, and counts it", async () => {
    await using world = await VolcengineWorld.open({ limits: { enisPerInstance: 3 } });
    const node = await NodeFixture.start(world, { poolSize: 60 });
    const subnetID = world.subnetID(world.block(7));
    const foreign = world.simulator.addEni({
      subnetID,
      instanceID: node.instanceID,
      addresses: ["172.20.7.9"],
    });
    const network = await node.provision();
    expect(network.addresses).toHaveLength(20);
    expect(network.eniIDs).not.toContain(foreign.eniID);
    await node.cloud.release(node.target(network), node.job());
    expect(world.resources(world.block(7))).toEqual([foreign.eniID]);
  });

  it("deletes and skips an ENI that cannot be attached", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 40 });
    const subnetID = world.subnetID(world.block(7));
    // Somebody takes the last place between our look and our attach.
    const stop = world.simulator.onChange((change) => {
      if (change.kind !== "eni" || change.what !== "created" || change.after?.subnet !== world.block(0))
        return;
      stop();
      for (let n = 0; n < 6; n++) {
        world.simulator.addEni({ subnetID, instanceID: node.instanceID, addresses: [`172.20.7.${n + 9}`] });
      }
    });
    const network = await node.provision();
    expect(network.addresses).toHaveLength(20);
    expect(node.progress.join("\n")).toMatch(/skipping eni-\S+: AttachNetworkInterface .*LimitExceeded/);
    await expect.poll(() => world.resources(world.block(0)), patience).toEqual(network.eniIDs);
  });

  it("fails when none can be attached, and leaves none behind", async () => {
    await using world = await VolcengineWorld.open({ limits: { enisPerInstance: 1 } });
    const node = await NodeFixture.start(world);
    await expect(node.provision()).rejects.toThrow(ExhaustedError);
    expect(world.resources(world.block(0))).toEqual([]);
  });

  it("names the quota that is used up", async () => {
    await using world = await VolcengineWorld.open({ limits: { enisPerRegion: 0 } });
    const node = await NodeFixture.start(world);
    await expect(node.provision()).rejects.toThrow(/QuotaExceeded\.Eni/);
  });
});

describe("provision: identity", () => {
  it("refuses an access key of another account", async () => {
    await using world = await VolcengineWorld.open();
    await using other = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const request = { ...node.request, instance: { ...node.request.instance, instanceID: "i-elsewhere" } };
    const cloud = await other.cloudOn(other.addInstance());
    await expect(cloud.provision(request, node.job())).rejects.toThrow(NotFoundError);
  });

  it("refuses a region that is not the node's", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const request = { ...node.request, instance: { ...node.request.instance, region: "cn-shanghai" } };
    await expect(node.cloud.provision(request, node.job())).rejects.toThrow(/cn-shanghai/);
  });
});
