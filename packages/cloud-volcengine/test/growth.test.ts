import { ConflictError, type MoveRequest, type NodeNetwork } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { useOf } from "../src/ownership.ts";
import { NodeFixture } from "./node-fixture.ts";
import { patience, VolcengineWorld } from "./volcengine-world.ts";

const lookup = "DescribeNetworkInterfaces";
const assign = "AssignPrivateIpAddresses";

describe("growing", () => {
  it("by number gives no address twice when the answer is lost and the next look shows what was before", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 3 });
    await node.provision();
    world.simulator.injectFault({ kind: "lost-answer", action: assign });
    world.simulator.injectFault({ kind: "stale-list", action: lookup, after: 1 });
    const grown = await node.cloud.provision({ ...node.request, poolSize: 10 }, node.job());
    expect(grown.addresses).toHaveLength(10);
    expect(world.simulator.calls[assign]).toBe(2);
  });

  it("by number asks for the rest where a part was done", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 2 });
    await node.provision();
    world.simulator.injectFault({ kind: "half-done", action: assign });
    const grown = await node.cloud.provision({ ...node.request, poolSize: 10 }, node.job());
    expect(grown.addresses).toHaveLength(10);
  });

  it("fills the ENIs that are there before it makes one, whatever is asked for by name", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 22 });
    const { eniIDs } = await node.provision();
    const request = { ...node.request, poolSize: 40, addresses: ["172.20.0.77"] };
    const grown = await node.cloud.provision(request, node.job());
    expect(grown.eniIDs).toEqual(eniIDs);
    expect(grown.addresses).toHaveLength(40);
  });

  it("gives what the subnet still has when somebody else was faster", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { subnet: "172.20.9.0/28", poolSize: 3 });
    const { subnetID = "" } = await node.provision();
    world.simulator.injectFault({ kind: "stale-list", action: "DescribeSubnets" });
    // Of 13 the node has 4.
    world.simulator.addEni({ subnetID, addresses: ["172.20.9.10", "172.20.9.11", "172.20.9.12"] });
    const grown = await node.cloud.provision({ ...node.request, poolSize: 12 }, node.job());
    expect(grown.addresses).toHaveLength(9);
    expect(grown.short?.reason).toMatch(/InsufficientIpInSubnet/);
  });

  it("adopts as many warm ENIs as it needs, and the others later", async () => {
    await using world = await VolcengineWorld.open();
    const last = await NodeFixture.start(world, { poolSize: 60 });
    const before = await last.provision();
    await last.cloud.release({ ...last.target(before), keepWarm: 3 }, last.job());
    const node = await NodeFixture.start(world, { node: "n2", poolSize: 25 });
    expect((await node.provision()).addresses).toHaveLength(40);
    const all = await node.cloud.provision({ ...node.request, poolSize: 60 }, node.job());
    expect(all).toMatchObject({ addresses: before.addresses, eniIDs: before.eniIDs });
    expect(world.simulator.calls.CreateNetworkInterface).toBe(3);
  });

  it("leaves a warm ENI of another cluster alone", async () => {
    await using world = await VolcengineWorld.open();
    const tags = { "cocoon-net:cluster": "other", "cocoon-net:use": "warm" };
    const subnetID = world.subnetID(world.block(0));
    const { eniID } = world.simulator.addEni({ subnetID, addresses: ["172.20.0.90", "172.20.0.91"], tags });
    const node = await NodeFixture.start(world, { poolSize: 1 });
    expect((await node.provision()).eniIDs).not.toContain(eniID);
  });
});

describe("an ENI that was there and cannot be attached again", () => {
  it("keeps its addresses", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 40 });
    const network = await node.provision();
    await node.cloud.fence(node.target(network), node.job());
    for (let n = 0; n < 6; n++) world.attachForeign(world.block(10 + n), node.instanceID);
    const less = await node.provision();
    expect(less.addresses).toHaveLength(20);
    expect(less.short?.reason).toMatch(/has 7 other ENIs and may have 8/);
    expect([...world.resources(world.block(0))].sort()).toEqual([...network.eniIDs].sort());
  });
});

describe("a move", () => {
  async function moved(world: VolcengineWorld) {
    const from = await NodeFixture.start(world, { poolSize: 4 });
    const to = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 4 });
    const [home, theirs] = [await from.provision(), await to.provision()];
    const [address = ""] = home.addresses;
    const request = (there: boolean, network: NodeNetwork): MoveRequest => {
      const away = { ...from.target(home), movedAway: [address] };
      const guest = { ...to.target(network), movedIn: [address] };
      return {
        address,
        from: there ? from.target(home) : guest,
        to: there ? to.target(theirs) : away,
        instance: there ? to.request.instance : from.request.instance,
        tags: from.request.tags,
      };
    };
    const there = await from.cloud.move(request(true, theirs), from.job());
    return { from, to, home, theirs, address, there, back: request(false, there.network) };
  }

  it("there and back leaves no ENI behind, and needs one only for the first address", async () => {
    await using world = await VolcengineWorld.open();
    const { from, to, home, theirs, there, back } = await moved(world);
    const { enis } = world.simulator.describeState();
    expect(enis.filter((eni) => useOf(eni) === "moved")).toMatchObject([{ instanceID: to.instanceID }]);

    world.requests.length = 0;
    const [, second = ""] = home.addresses;
    const more = { ...back, address: second, from: back.to, to: back.from, instance: to.request.instance };
    const again = await from.cloud.move({ ...more, from: from.target(home) }, from.job());
    expect(again).toMatchObject({ verified: true, network: { eniIDs: there.network.eniIDs } });
    expect(
      world.requests.map(({ action }) => action).filter((action) => !action.startsWith("Describe")),
    ).toEqual(["UnassignPrivateIpAddresses", assign]);

    for (const address of [second, back.address]) {
      expect(await from.cloud.move({ ...back, address }, from.job())).toMatchObject({ verified: true });
    }
    const left = () => world.resources(world.block(0)).length;
    await expect.poll(left, patience).toBe(home.eniIDs.length);
    expect((await to.provision()).eniIDs).toEqual(theirs.eniIDs);
  });

  it("is no obstacle to the home node's growth and release", async () => {
    await using world = await VolcengineWorld.open();
    const { from, home, address, to } = await moved(world);
    const grown = await from.cloud.provision({ ...from.request, poolSize: 10 }, from.job());
    expect(grown.addresses).toHaveLength(10);
    expect(grown.addresses).not.toContain(address);
    const target = { ...from.target(home), movedAway: [address] };
    expect(await from.cloud.fence(target, from.job())).toMatchObject({ verified: true });
    expect((await from.cloud.release(target, from.job())).remaining).toEqual([]);
    expect(world.delivered(world.block(0)).get(address)).toBe(to.instanceID);
  });

  it("whose address cannot be assigned there is undone", async () => {
    await using world = await VolcengineWorld.open();
    const { from, to, home, theirs } = await moved(world);
    const [, address = ""] = home.addresses;
    world.simulator.injectFault({ kind: "refuse", code: "LimitExceeded.PrivateIpsPerEni", action: assign });
    const request: MoveRequest = {
      address,
      from: from.target(home),
      to: to.target(theirs),
      instance: to.request.instance,
      tags: from.request.tags,
    };
    const job = from.job();
    await expect(from.cloud.move(request, job)).rejects.toThrow(/PrivateIpsPerEni/);
    expect(world.delivered(world.block(0)).get(address)).toBe(from.instanceID);
    // The same job, run again, is not taken for done.
    expect(await from.cloud.move(request, job.restarted())).toMatchObject({ verified: true });
    expect(world.delivered(world.block(0)).get(address)).toBe(to.instanceID);
  });

  it("that was interrupted, to a node that has no room any more, is undone", async () => {
    await using world = await VolcengineWorld.open();
    const from = await NodeFixture.start(world, { poolSize: 4 });
    const to = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 4 });
    const [home, theirs] = [await from.provision(), await to.provision()];
    const [address = ""] = home.addresses;
    // What a move that was killed in between has left, of an ENI that has gone since.
    await from.cloud.shrink(from.target(home), [address], from.job());
    for (let n = 0; n < 6; n++) world.attachForeign(world.block(10 + n), to.instanceID);
    const request: MoveRequest = {
      address,
      from: from.target(home),
      to: to.target(theirs),
      instance: to.request.instance,
      tags: from.request.tags,
    };
    await expect(from.cloud.move(request, from.job())).rejects.toThrow(
      /n2 has no room for 172\.20\.0\.\d+: .* 8 of 8 ENIs/,
    );
    expect(world.delivered(world.block(0)).get(address)).toBe(from.instanceID);
  });

  it("to a node from which it is taken in the end leaves nothing there, and the node all of its own", async () => {
    await using world = await VolcengineWorld.open();
    const from = await NodeFixture.start(world, { poolSize: 4 });
    const to = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 4 });
    const [home, theirs] = [await from.provision(), await to.provision()];
    const [first = "", second = ""] = home.addresses;
    const { tags } = from.request;
    const instance = to.request.instance;
    let network = theirs;
    for (const address of [first, second]) {
      const movedAway = home.addresses.slice(0, 2).filter((one) => one !== address);
      const request = { from: { ...from.target(home), movedAway }, to: to.target(network), instance, tags };
      ({ network } = await from.cloud.move({ ...request, address }, from.job()));
    }
    const delivered = () => world.delivered(world.block(0));
    const target = { ...to.target(network), movedIn: [first, second] };
    expect((await to.cloud.shrink(target, [first], to.job())).addresses).toEqual(theirs.addresses);
    expect([delivered().get(first), delivered().get(second)]).toEqual([undefined, to.instanceID]);
    expect((await to.cloud.shrink(target, [first, second], to.job())).addresses).toEqual(theirs.addresses);
    expect([...delivered().values()]).not.toContain(to.instanceID);
    await expect.poll(() => world.resources(world.block(0)), patience).toEqual(home.eniIDs);
  });

  it("of an ENI's primary address is refused", async () => {
    await using world = await VolcengineWorld.open();
    const { from, back } = await moved(world);
    const { enis } = world.simulator.describeState();
    const primary = enis.find((eni) => eni.instanceID === from.instanceID && eni.subnet === world.block(0));
    const address = primary?.addresses[0]?.address ?? "";
    await expect(from.cloud.move({ ...back, address }, from.job())).rejects.toThrow(ConflictError);
  });
});
