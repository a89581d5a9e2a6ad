import { RecordedJob, SimulatedCrash } from "@cocoon-net/cloud-testkit";
import { ConflictError, ExhaustedError, InvalidError, NotFoundError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { GkeWorld, numberOf } from "./gke-world.ts";
import { moveOf, NodeFixture } from "./node-fixture.ts";

const update = "instances.updateNetworkInterface";
const ours = (cidr: string) => ({ cidr, rangeName: "cocoon-pods" });

/** Two nodes with their blocks, 172.20.0.0/24 and 172.20.1.0/24. */
async function twoNodes(world: GkeWorld): Promise<readonly [NodeFixture, NodeFixture]> {
  const home = await NodeFixture.start(world);
  const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1) });
  await home.provision();
  await guest.provision();
  return [home, guest];
}

/** 172.20.0.0/24 without 172.20.0.77. */
const carved = [
  "172.20.0.0/26",
  "172.20.0.64/29",
  "172.20.0.72/30",
  "172.20.0.76/32",
  "172.20.0.78/31",
  "172.20.0.80/28",
  "172.20.0.96/27",
  "172.20.0.128/25",
].map((cidr) => `cocoon-pods:${cidr}`);

describe("a move", () => {
  it("carves the address out in as few aliases as there can be, and brings it to the target", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const seen: string[] = [];
    world.simulator.onChange((change) => {
      if (change.kind === "alias") seen.push(`${change.what} ${change.alias.cidr} ${change.instance.name}`);
    });
    const { verified, evidence, network } = await home.move("172.20.0.77", guest);
    expect(verified, evidence).toBe(true);
    expect(evidence).toBe(`cocoon-pods:172.20.0.77/32 is on ${guest.instanceID}`);
    expect(world.aliasesOf(home.instanceID)).toEqual(carved);
    expect(world.aliasesOf(guest.instanceID)).toEqual([
      "cocoon-pods:172.20.1.0/24",
      "cocoon-pods:172.20.0.77/32",
    ]);
    expect(network.addresses).toHaveLength(254);
    expect(network.addresses[0]).toBe("172.20.0.77");
    // Off the source first, so that nobody ever has it twice.
    expect([seen[0], seen.at(-1)]).toEqual(["removed 172.20.0.0/24 vm-1", "added 172.20.0.77/32 vm-2"]);
    expect(world.simulator.calls[update]).toBe(2 + 3);
  });

  it("back makes the block whole again, once the last address is there", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    await home.move("172.20.0.9", guest, { from: ["172.20.0.77"], to: ["172.20.0.77"] });
    await guest.move("172.20.0.77", home, { to: ["172.20.0.9"], from: ["172.20.0.9"] });
    expect(world.aliasesOf(home.instanceID)).toContain("cocoon-pods:172.20.0.64/26");
    expect(world.delivered(world.block(0)).size).toBe(256);
    const { verified } = await guest.move("172.20.0.9", home);
    expect(verified).toBe(true);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
    expect(world.aliasesOf(guest.instanceID)).toEqual(["cocoon-pods:172.20.1.0/24"]);
  });

  it("outlives the home node: the next one with the block gets the rest of it", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    world.deleteInstance(home.instanceID);
    const next = await NodeFixture.start(world);
    await expect(next.provision()).rejects.toThrow(/cocoon-pods:172\.20\.0\.77\/32 is on /);
    const request = { ...next.request, poolSize: 253, movedAway: ["172.20.0.77"] };
    const { addresses } = await next.cloud.provision(request, next.job());
    expect(world.aliasesOf(next.instanceID)).toEqual(carved);
    expect(addresses).toHaveLength(252);
    await next.cloud.provision(request, next.job());
    expect(world.aliasesOf(next.instanceID)).toEqual(carved);
  });

  it("on to a third node goes from where the address is", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const third = await NodeFixture.start(world, { node: "n3", subnet: world.block(2) });
    await home.move("172.20.0.77", guest);
    const { verified } = await guest.move("172.20.0.77", third, { from: ["172.20.0.77"] });
    expect(verified).toBe(true);
    expect(world.aliasesOf(third.instanceID)).toEqual(["cocoon-pods:172.20.0.77/32"]);
    expect(world.aliasesOf(guest.instanceID)).toEqual(["cocoon-pods:172.20.1.0/24"]);
    expect(world.aliasesOf(home.instanceID)).toEqual(carved);
  });

  it("leaves everything else of both interfaces alone", async () => {
    await using world = await GkeWorld.open({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/16", gke: "10.4.0.0/16" },
    });
    const [home, guest] = await twoNodes(world);
    for (const [n, node] of [home, guest].entries()) {
      world.simulator.addAlias(numberOf(node.instanceID), { cidr: `10.4.${n}.0/24`, rangeName: "gke" });
    }
    await home.move("172.20.0.77", guest);
    await guest.move("172.20.0.77", home);
    expect(world.aliasesOf(home.instanceID)).toEqual(["gke:10.4.0.0/24", "cocoon-pods:172.20.0.0/24"]);
    expect(world.aliasesOf(guest.instanceID)).toEqual(["cocoon-pods:172.20.1.0/24", "gke:10.4.1.0/24"]);
  });

  it("run again changes nothing", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    const writes = world.simulator.calls[update];
    expect((await home.move("172.20.0.77", guest)).verified).toBe(true);
    expect(world.simulator.calls[update]).toBe(writes);
  });

  it("knows from the cloud what other nodes serve, also where the record does not", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const third = await NodeFixture.start(world, { node: "n3", subnet: world.block(2) });
    await home.move("172.20.0.9", third);
    await home.move("172.20.0.5", guest);
    await home.move("172.20.0.77", guest);
    expect([...world.delivered(world.block(0)).values()].filter((id) => id === home.instanceID)).toHaveLength(
      253,
    );
    expect(world.aliasesOf(third.instanceID)).toEqual(["cocoon-pods:172.20.0.9/32"]);
  });

  it("does not take from the home node what the record wrongly says is elsewhere", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest, { from: ["172.20.0.9"] });
    expect(world.delivered(world.block(0)).get("172.20.0.9")).toBe(home.instanceID);
  });

  it("back from an instance that is gone fills the hole", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    world.deleteInstance(guest.instanceID);
    await expect.poll(() => world.delivered(world.block(0)).size).toBe(255);
    const moved = await home.cloud.move(moveOf("172.20.0.77", guest, home), home.job());
    expect(moved.verified).toBe(true);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });
});

describe("a move is refused before anything is changed", () => {
  const cases = [
    ["the source's interface", 7, "of vm-1 has 1 alias ranges and would have 8, of at most 7"],
    ["the target's interface", 8, "of vm-2 has 8 alias ranges and would have 9, of at most 8"],
  ] as const;
  it.each(cases)("where %s would have more alias ranges than are allowed", async (_, limit, message) => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    for (let n = 1; n < 8; n++) {
      const cidr = `10.128.9.${n}/32`;
      world.simulator.addAlias(numberOf(guest.instanceID), { cidr, rangeName: undefined });
    }
    const env = { COCOON_NET_GCE_ALIAS_RANGES_PER_NIC: String(limit) };
    const cloud = await world.cloudOn(home.instanceID, {}, { env });
    expect((await cloud.describeLimits(home.request.instance)).aliasRangesPerNIC).toBe(limit);
    const before = [home, guest].map(({ instanceID }) => world.aliasesOf(instanceID));
    const writes = world.simulator.calls[update];
    const failure = cloud.move(moveOf("172.20.0.77", home, guest), home.job());
    await expect(failure).rejects.toThrow(ExhaustedError);
    await expect(failure).rejects.toThrow(message);
    expect([home, guest].map(({ instanceID }) => world.aliasesOf(instanceID))).toEqual(before);
    expect(world.simulator.calls[update]).toBe(writes);
  });

  it("where somebody else has the address", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const third = await NodeFixture.start(world, { node: "n3", subnet: world.block(2) });
    await home.move("172.20.0.77", third);
    const writes = world.simulator.calls[update];
    const failure = home.move("172.20.0.77", guest);
    await expect(failure).rejects.toThrow(ConflictError);
    await expect(failure).rejects.toThrow(
      `172.20.0.77 is with neither n1 nor n2: cocoon-pods:172.20.0.77/32 is on ${third.instanceID}`,
    );
    expect(world.simulator.calls[update]).toBe(writes);
  });

  it("where the address is of neither node, or the nodes are in different subnets", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await expect(home.move("172.20.9.9", guest)).rejects.toThrow(InvalidError);
    world.simulator.addSubnetwork({ name: "other", cidr: "10.129.0.0/20" });
    const { id } = world.simulator.addInstance({ name: "stranger", subnetwork: "other" });
    const instanceID = `demo-project/us-central1-a/stranger/${id}`;
    const request = moveOf("172.20.0.77", home, guest);
    const to = { ...request.to, instanceID };
    const failure = home.cloud.move(
      { ...request, to, instance: { ...request.instance, instanceID } },
      home.job(),
    );
    await expect(failure).rejects.toThrow(/an alias belongs to one subnet/);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("where the target is gone", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    world.deleteInstance(guest.instanceID);
    await expect.poll(() => guest.cloud.describeInstance(guest.instanceID)).toBe("gone");
    await expect(home.move("172.20.0.77", guest)).rejects.toThrow(NotFoundError);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });
});

describe("a move that is refused on the way is undone", () => {
  it("where the API has a lower limit than was known, which is known then", async () => {
    for (const [limit, learnt] of [
      [8, 8],
      [5, 5],
    ] as const) {
      await using world = await GkeWorld.open({ limits: { aliasRangesPerNic: limit } });
      const [home, guest] = await twoNodes(world);
      for (let n = 1; n < limit; n++) {
        const cidr = `10.128.9.${n}/32`;
        world.simulator.addAlias(numberOf(guest.instanceID), { cidr, rangeName: undefined });
      }
      const before = [home, guest].map(({ instanceID }) => world.aliasesOf(instanceID));
      await expect(home.move("172.20.0.77", guest)).rejects.toThrow(ExhaustedError);
      expect([home, guest].map(({ instanceID }) => world.aliasesOf(instanceID))).toEqual(before);
      expect((await home.cloud.describeLimits(home.request.instance)).aliasRangesPerNIC).toBe(learnt);
      const writes = world.simulator.calls[update];
      await expect(home.move("172.20.0.77", guest)).rejects.toThrow(/of at most/);
      expect(world.simulator.calls[update]).toBe(writes);
    }
  });

  it("where the network's quota is reached by the parts", async () => {
    await using world = await GkeWorld.open({ limits: { aliasRangesPerNetwork: 6 } });
    const [home, guest] = await twoNodes(world);
    await expect(home.move("172.20.0.77", guest)).rejects.toThrow(/ALIASES_PER_NETWORK_GLOBAL/);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
    expect(world.aliasesOf(guest.instanceID)).toEqual(["cocoon-pods:172.20.1.0/24"]);
  });

  it("where somebody else takes the address in between; the rest of the block is there again", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const other = world.addInstance("thief");
    const stop = world.simulator.onChange((change) => {
      if (change.kind !== "alias" || change.what !== "removed") return;
      stop();
      world.simulator.addAlias(numberOf(other), ours("172.20.0.77/32"));
    });
    const job = home.job();
    const first = home.cloud.move(moveOf("172.20.0.77", home, guest), job);
    await expect(first).rejects.toThrow(/undoing the move failed/);
    const again = home.cloud.move(moveOf("172.20.0.77", home, guest), job.restarted());
    await expect(again).rejects.toThrow(ConflictError);
    expect(world.aliasesOf(home.instanceID)).toEqual(carved);
  });

  it("where the target goes away in between", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const stop = world.simulator.onChange((change) => {
      if (change.kind !== "alias" || change.what !== "added") return;
      stop();
      world.deleteInstance(guest.instanceID);
    });
    await expect(home.move("172.20.0.77", guest)).rejects.toThrow(NotFoundError);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });
});

describe("a move that was stopped half-way", () => {
  /** Off the source, and not on the target yet. */
  async function halfMoved(world: GkeWorld) {
    const [home, guest] = await twoNodes(world);
    const dying = new RecordedJob("half", { crash: { at: 4, durable: true } });
    const request = moveOf("172.20.0.77", home, guest);
    await expect(home.cloud.move(request, dying)).rejects.toThrow(SimulatedCrash);
    expect(world.aliasesOf(home.instanceID)).toEqual(carved);
    expect(world.delivered(world.block(0)).size).toBe(255);
    return { home, guest, request, job: dying.restarted() };
  }

  it("is undone when the target has gone meanwhile", async () => {
    await using world = await GkeWorld.open();
    const { home, guest, request, job } = await halfMoved(world);
    world.deleteInstance(guest.instanceID);
    await expect.poll(() => home.cloud.describeInstance(guest.instanceID)).toBe("gone");
    await expect(home.cloud.move(request, job)).rejects.toThrow(NotFoundError);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("is undone when it is known by then that the target has no room", async () => {
    await using world = await GkeWorld.open();
    const { home, request, job } = await halfMoved(world);
    const env = { COCOON_NET_GCE_ALIAS_RANGES_PER_NIC: "1" };
    const cloud = await world.cloudOn(home.instanceID, {}, { env });
    await expect(cloud.move(request, job)).rejects.toThrow(ExhaustedError);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("is undone by a move in the other direction", async () => {
    await using world = await GkeWorld.open();
    const { home, guest } = await halfMoved(world);
    expect((await guest.move("172.20.0.77", home)).verified).toBe(true);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });
});

describe("addresses that were moved", () => {
  it("away are no obstacle to a fence, and their holders are not touched", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    const unknown = await guest.cloud.fence(home.target(), home.job());
    expect(unknown.verified).toBe(false);
    const target = { ...home.target(), movedAway: ["172.20.0.77"] };
    const { verified, evidence } = await guest.cloud.fence(target, home.job());
    expect(verified, evidence).toBe(true);
    expect(evidence).toContain("moved away: 172.20.0.77");
    expect((await guest.cloud.release(target, home.job())).remaining).toEqual([]);
    expect(world.aliasesOf(home.instanceID)).toEqual([]);
    expect(world.aliasesOf(guest.instanceID)).toContain("cocoon-pods:172.20.0.77/32");
  });

  it("in go with the node that serves them", async () => {
    for (const verb of ["fence", "release"] as const) {
      await using world = await GkeWorld.open();
      const [home, guest] = await twoNodes(world);
      await home.move("172.20.0.77", guest);
      const target = { ...guest.target(), movedIn: ["172.20.0.77"] };
      const result = await home.cloud[verb](target, home.job());
      expect(result).toMatchObject(verb === "fence" ? { verified: true } : { remaining: [] });
      expect(world.aliasesOf(guest.instanceID)).toEqual([]);
      expect(world.aliasesOf(home.instanceID)).toEqual(carved);
    }
  });

  it("in keep a fence from being verified while another instance has them", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    const target = { ...guest.target(), movedIn: ["172.20.0.77"] };
    const { verified, evidence } = await home.cloud.fence(target, home.job());
    expect(verified).toBe(false);
    expect(evidence).toContain(home.instanceID);
  });

  it("stay where they are when the node is provisioned again, with all the rest of its block", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    world.simulator.removeAlias(numberOf(home.instanceID), ours("172.20.0.128/25"));
    const { addresses } = await home.cloud.provision({ ...home.request, poolSize: 253 }, home.job());
    expect(addresses).toHaveLength(252);
    expect(addresses).not.toContain("172.20.0.77");
    expect(world.delivered(world.block(0)).get("172.20.0.77")).toBe(guest.instanceID);
    expect(world.delivered(world.block(0)).get("172.20.0.200")).toBe(home.instanceID);
    await guest.provision();
    expect(world.aliasesOf(guest.instanceID)).toContain("cocoon-pods:172.20.0.77/32");
    const asked = { ...home.request, addresses: ["172.20.0.77"] };
    await expect(home.cloud.provision(asked, home.job())).rejects.toThrow(/is served by another node/);
  });
});

describe("shrink", () => {
  it("takes what was moved here and has no home any more, and nothing of the node's own block", async () => {
    await using world = await GkeWorld.open();
    const [home, guest] = await twoNodes(world);
    await home.move("172.20.0.77", guest);
    await home.move("172.20.0.9", guest, { from: ["172.20.0.77"], to: ["172.20.0.77"] });
    world.deleteInstance(home.instanceID);
    const job = guest.job();
    const target = { ...guest.target(), movedIn: ["172.20.0.9", "172.20.0.77"] };
    const { addresses } = await guest.cloud.shrink(target, ["172.20.0.77", "172.20.1.7"], job);
    expect(addresses).toContain("172.20.0.9");
    expect(addresses).toContain("172.20.1.7");
    expect(addresses).not.toContain("172.20.0.77");
    const left = ["cocoon-pods:172.20.1.0/24", "cocoon-pods:172.20.0.9/32"];
    expect(world.aliasesOf(guest.instanceID)).toEqual(left);
    expect(job.written.map(({ phase }) => phase)).toEqual(["intent", "done"]);
    // Again, as after a lost answer.
    await guest.cloud.shrink(target, ["172.20.0.77"], guest.job());
    expect(world.aliasesOf(guest.instanceID)).toEqual(left);
  });
});

describe("a whole block", () => {
  it("is what a pool grows to, and shrink takes nothing of it", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world, { poolSize: 2 });
    const limits = await node.cloud.describeLimits(node.request.instance);
    expect(limits).toMatchObject({ assigns: "block", aliasRangesPerNIC: 150, smallestBlock: 32 });
    const request = { ...node.request, addresses: ["172.20.0.200", "172.20.0.1"] };
    const { addresses } = await node.cloud.provision(request, node.job());
    expect(addresses).toEqual(["172.20.0.1", "172.20.0.200"]);
    await expect(
      node.cloud.provision({ ...request, addresses: ["172.20.0.255"] }, node.job()),
    ).rejects.toThrow(InvalidError);
    const shrunk = await node.cloud.shrink(node.target(), addresses, node.job());
    expect(shrunk.addresses).toHaveLength(253);
    expect(shrunk.aliasRangeName).toBe("cocoon-pods");
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });
});
