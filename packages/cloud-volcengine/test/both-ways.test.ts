import type { FaultRule, VolcengineDelays, VolcengineSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { describe, expect, it, vi } from "vitest";
import { NodeFixture } from "./node-fixture.ts";
import { delays as fast, patience, VolcengineWorld } from "./volcengine-world.ts";

/** All that can happen to two nodes, and nothing left at the end. */
async function liveAndDie(world: VolcengineWorld): Promise<void> {
  const node = await NodeFixture.start(world, { poolSize: 15 });
  const other = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 3 });
  for (const { cloud, instanceID } of [node, other]) {
    await vi.waitUntil(async () => (await cloud.describeInstance(instanceID)) === "running", patience);
  }
  const first = await node.provision();
  expect(first.addresses.length).toBeGreaterThanOrEqual(15);
  const theirs = await other.provision();

  const wanted = { ...node.request, poolSize: 30, addresses: ["172.20.0.200"] };
  const grown = await node.cloud.provision(wanted, node.job());
  expect(grown.addresses.length).toBeGreaterThanOrEqual(30);
  expect(grown.addresses).toEqual(expect.arrayContaining([...first.addresses, "172.20.0.200"]));

  const unwanted = grown.addresses.slice(3, 20);
  const less = await node.cloud.shrink(node.target(grown), unwanted, node.job());
  expect(less.addresses).toEqual(grown.addresses.filter((address) => !unwanted.includes(address)));

  const address = "172.20.0.200";
  const { tags } = node.request;
  const [from, to] = [node.target(grown), other.target(theirs)];
  const instance = other.request.instance;
  const there = await node.cloud.move({ address, from, to, instance, tags }, node.job());
  expect(there).toMatchObject({ verified: true });
  expect(world.delivered(world.block(0)).get(address)).toBe(other.instanceID);

  const theirTarget = { ...other.target(there.network), movedIn: [address] };
  const ourTarget = { ...node.target(grown), movedAway: [address] };
  for (const target of [ourTarget, theirTarget]) {
    expect(await node.cloud.fence(target, node.job())).toMatchObject({ verified: true });
    const { remaining, released } = await node.cloud.release(target, node.job());
    expect(remaining).toEqual([]);
    expect(released).toEqual(expect.arrayContaining([...target.eniIDs]));
  }
  expect([...world.resources(world.block(0)), ...world.resources(world.block(1))]).toEqual([]);
}

// They only wait, each in a world of its own.
describe.concurrent("works, whichever way the vendor does it", () => {
  const ways: Readonly<Record<string, VolcengineSimulatorOptions>> = {
    "as the simulator has it": {},
    "a type's number of addresses leaves the primary one out": { limitCountsPrimary: false },
    "creation takes no addresses, and does not say so": { creationAddresses: "ignored" },
    "creation refuses addresses": { creationAddresses: "refused" },
    "a subnet's total counts what nobody can have": { totalCountsReserved: true },
    "unassigning what is not there does the rest and fails": { unassignMissing: "partial" },
    "unassigning what is not there is done": { unassignMissing: "ignore" },
    "asking for an id that does not exist is refused": { unknownIDs: "refuse" },
    "a Pending VPC refuses every write": { pendingVpc: "writes" },
    "the gateway's errors are flat, and throttling is an answer with 200": {
      gatewayErrors: "flat",
      throttleStatus: 200,
    },
    "an Assign lists all addresses": { assignAnswer: "all" },
    "the metadata service has hyphens, and demands tokens": {
      metadataItems: "hyphens",
      metadataTokens: "required",
    },
    "the metadata service has underscores, and no tokens": {
      metadataItems: "underscores",
      metadataTokens: "none",
    },
  };
  it.each(Object.entries(ways))("%s", async (_, options) => {
    await using world = await VolcengineWorld.open(options);
    world.simulator.injectFault({ kind: "throttle" });
    await liveAndDie(world);
  });

  const slow: Readonly<Record<string, Partial<VolcengineDelays>>> = {
    "lists lag behind": { listLagMs: 40 },
    "an Assign locks the VPC": { assignLockMs: 20 },
    "client tokens are not kept": { clientTokenMs: 0 },
  };
  it.each(Object.entries(slow))("%s", async (_, delays) => {
    await using world = await VolcengineWorld.open({ delays: { ...fast, ...delays } });
    await liveAndDie(world);
  });
});

describe("a request that", () => {
  const kinds = ["fails-later", "half-done"] as const satisfies FaultRule["kind"][];
  const actions = [
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "DetachNetworkInterface",
    "TagResources",
  ];
  it.each(kinds)("%s, of any action, leaves nothing behind in the end", async (kind) => {
    for (const action of actions) {
      await using world = await VolcengineWorld.open();
      world.simulator.injectFault({ kind, action });
      await liveAndDie(world).catch((error: unknown) => {
        throw new Error(`${kind} of ${action}`, { cause: error });
      });
    }
  });

  it("makes a subnet that does not come to be is made once more", async () => {
    await using world = await VolcengineWorld.open({ delays: { ...fast, createSubnetMs: 60 } });
    const node = await NodeFixture.start(world);
    world.simulator.injectFault({ kind: "fails-later", action: "CreateSubnet" });
    expect((await node.provision()).addresses).toHaveLength(25);
    expect(world.simulator.calls.CreateSubnet).toBe(2);
  });
});

describe("a type's number of addresses", () => {
  it.each([
    [true, 5, 1],
    [false, 6, undefined],
  ])(
    "is found out where it matters: it counts the primary one: %s",
    async (limitCountsPrimary, most, missing) => {
      const limits = { enisPerInstance: 2, addressesPerEni: 6 };
      await using world = await VolcengineWorld.open({ limits, limitCountsPrimary });
      const node = await NodeFixture.start(world, { poolSize: 6 });
      const network = await node.provision();
      expect(network.addresses).toHaveLength(most);
      expect(network.short?.addresses).toBe(missing);
      expect(await node.cloud.describeLimits(node.request.instance)).toMatchObject({
        nicsPerNode: 1,
        addressesPerNIC: most,
      });
      // It is not asked for in vain again.
      world.requests.length = 0;
      await node.provision();
      expect(world.requests.filter(({ result }) => result !== "ok")).toEqual([]);
    },
  );
});
