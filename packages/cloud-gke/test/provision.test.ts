import { ConflictError, describeError, ExhaustedError, InvalidError, NotFoundError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { GkeWorld, numberOf } from "./gke-world.ts";
import { NodeFixture } from "./node-fixture.ts";

const ours = (cidr: string) => ({ cidr, rangeName: "cocoon-pods" });

describe("provision: the pod range", () => {
  it("of a cluster is made as wide as the cluster, so that the next node finds its block in it", async () => {
    await using world = await GkeWorld.open({ secondaryRanges: {} });
    const parentCIDR = "172.20.0.0/16";
    await (await NodeFixture.start(world, { parentCIDR })).provision();
    const second = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), parentCIDR });
    expect((await second.provision()).addresses[0]).toBe("172.20.1.2");
    const [subnetwork] = world.simulator.describeState().subnetworks;
    expect(subnetwork?.secondaryRanges).toEqual([{ rangeName: "cocoon-pods", cidr: parentCIDR }]);
  });

  it("is made at the node's block where there is none, beside the others", async () => {
    await using world = await GkeWorld.open({ secondaryRanges: { services: "10.8.0.0/20" } });
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    expect(network.aliasRangeName).toBe("cocoon-pods");
    const [subnetwork] = world.simulator.describeState().subnetworks;
    expect(subnetwork?.secondaryRanges).toEqual([
      { rangeName: "services", cidr: "10.8.0.0/20" },
      { rangeName: "cocoon-pods", cidr: world.block(0) },
    ]);
    await node.provision();
    expect(world.simulator.calls["subnetworks.patch"]).toBe(1);
  });

  it("that covers the block is used", async () => {
    await using world = await GkeWorld.open();
    await (await NodeFixture.start(world)).provision();
    expect(world.simulator.calls["subnetworks.patch"]).toBeUndefined();
  });

  it("that does not cover the block is an error that says what to do", async () => {
    await using world = await GkeWorld.open({ secondaryRanges: { "cocoon-pods": "10.4.0.0/16" } });
    const node = await NodeFixture.start(world);
    const failure = node.provision();
    await expect(failure).rejects.toThrow(ConflictError);
    expect(await failure.then(String, describeError)).toBe(
      'secondary range "cocoon-pods" on subnet nodes is 10.4.0.0/16, which does not cover --subnet 172.20.0.0/24; ' +
        "expand the range or choose a --subnet inside it",
    );
    expect(world.simulator.calls["instances.updateNetworkInterface"]).toBeUndefined();
  });

  it("that overlaps something else of the VPC is refused, with what it overlaps", async () => {
    await using world = await GkeWorld.open({ secondaryRanges: { pods: "172.20.0.0/16" } });
    await expect((await NodeFixture.start(world)).provision()).rejects.toThrow(/overlaps with the range/);
  });

  it("of a Shared VPC is the host project's", async () => {
    await using world = await GkeWorld.open({ networkProject: "host-project" });
    const node = await NodeFixture.start(world);
    const { subnetID } = await node.provision();
    expect(subnetID).toBe("projects/host-project/regions/us-central1/subnetworks/nodes");
    expect((await node.cloud.fence(node.target({ eniIDs: [] }), node.job())).verified).toBe(true);
  });
});

describe("provision: aliases", () => {
  it("of others stay, also of the primary range", async () => {
    await using world = await GkeWorld.open({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/16", gke: "10.4.0.0/16" },
    });
    const node = await NodeFixture.start(world);
    const gke = { cidr: "10.4.7.0/24", rangeName: "gke" };
    const primary = { cidr: "10.128.0.77/32", rangeName: undefined };
    for (const alias of [gke, primary]) world.simulator.addAlias(numberOf(node.instanceID), alias);
    await node.provision();
    expect(world.aliasesOf(node.instanceID)).toEqual([
      "gke:10.4.7.0/24",
      "primary:10.128.0.77/32",
      "cocoon-pods:172.20.0.0/24",
    ]);
    await node.cloud.release(node.target(), node.job());
    expect(world.aliasesOf(node.instanceID)).toEqual(["gke:10.4.7.0/24", "primary:10.128.0.77/32"]);
  });

  it("of an earlier block of the node go first, in a request of their own", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    // The last was moved here from another node, the one before it is what a move has left of an earlier block.
    for (const cidr of ["172.20.9.0/25", "172.20.9.130/32", "172.20.8.5/32"]) {
      world.simulator.addAlias(numberOf(node.instanceID), ours(cidr));
    }
    const seen: string[] = [];
    world.simulator.onChange((change) => {
      if (change.kind === "alias") seen.push(`${change.what} ${change.alias.cidr}`);
    });
    await node.provision();
    expect(seen).toEqual(["removed 172.20.9.0/25", "removed 172.20.9.130/32", "added 172.20.0.0/24"]);
    expect(world.simulator.calls["instances.updateNetworkInterface"]).toBe(2);
  });

  it("that are right already cost no write", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.addAlias(numberOf(node.instanceID), ours(world.block(0)));
    const job = node.job();
    await node.provision(job);
    expect(world.simulator.calls["instances.updateNetworkInterface"]).toBeUndefined();
    expect(job.written).toEqual([]);
  });

  it("are asked for under a requestId that was written down before", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const job = node.job();
    const writesAtIntent: (number | undefined)[] = [];
    const recording = {
      id: job.id,
      steps: job.steps,
      record: async (step: Parameters<typeof job.record>[0]) => {
        if (step.phase === "intent") {
          expect(step.detail?.requestId).toMatch(/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
          writesAtIntent.push(world.simulator.calls["instances.updateNetworkInterface"]);
        }
        await job.record(step);
      },
    };
    await node.cloud.provision(node.request, recording);
    expect(writesAtIntent).toEqual([undefined]);
    expect(job.written).toMatchObject([
      {
        phase: "intent",
        key: "add vm-1",
        detail: { instance: node.instanceID, aliases: "cocoon-pods:172.20.0.0/24" },
      },
      { phase: "done", key: "add vm-1" },
    ]);
  });

  it("that another instance holds are a conflict that names it", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const other = world.addInstance();
    world.attachForeign(world.block(0), other);
    const failure = node.provision();
    await expect(failure).rejects.toThrow(ConflictError);
    await expect(failure).rejects.toThrow(`cocoon-pods:172.20.0.252/32 is on ${other}`);
  });

  it("beyond the interface's limit are refused, and all that were there stay", async () => {
    await using world = await GkeWorld.open({ limits: { aliasRangesPerNic: 3 } });
    const node = await NodeFixture.start(world);
    const foreign = ["10.128.1.1/32", "10.128.1.2/32", "10.128.1.3/32"];
    for (const cidr of foreign) {
      world.simulator.addAlias(numberOf(node.instanceID), { cidr, rangeName: undefined });
    }
    const failure = node.provision();
    await expect(failure).rejects.toThrow(ExhaustedError);
    await expect(failure).rejects.toThrow(/Limit: 3/);
    expect(world.aliasesOf(node.instanceID)).toEqual(foreign.map((cidr) => `primary:${cidr}`));
  });

  it("beyond the network's quota are refused by the operation, and that is seen", async () => {
    await using world = await GkeWorld.open({ limits: { aliasRangesPerNetwork: 0 } });
    const node = await NodeFixture.start(world);
    const job = node.job();
    const failure = node.provision(job);
    await expect(failure).rejects.toThrow(ExhaustedError);
    await expect(failure).rejects.toThrow(/ALIASES_PER_NETWORK_GLOBAL/);
    expect(job.written.map(({ phase }) => phase)).toEqual(["intent", "failed"]);
  });
});

describe("provision: the pool", () => {
  it.each([
    ["172.20.0.0/24", 25, "172.20.0.2", "172.20.0.26", 25],
    ["172.20.0.0/24", 1000, "172.20.0.2", "172.20.0.254", 253],
    ["172.20.4.0/29", 3, "172.20.4.2", "172.20.4.4", 3],
  ])("of %s for %i VMs", async (subnet, poolSize, first, last, size) => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world, { subnet, poolSize });
    const { addresses } = await node.provision();
    expect([addresses[0], addresses.at(-1), addresses.length]).toEqual([first, last, size]);
    expect(node.progress.some((line) => line.includes("smaller than asked"))).toBe(size < poolSize);
  });

  it.each([
    [{ poolSize: 0 }, InvalidError],
    [{ subnet: "172.20.0.1/24" }, InvalidError],
    [{ subnet: "172.20.0.0/32" }, ExhaustedError],
  ])("refuses %j before it asks the cloud", async (options, type) => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world, options);
    await expect(node.provision()).rejects.toThrow(type);
    expect(world.simulator.calls).toEqual({});
  });
});

describe("an instance of the same name is another one (G12)", () => {
  async function replaced(world: GkeWorld): Promise<{ old: NodeFixture; successor: string }> {
    const old = await NodeFixture.start(world);
    await old.provision();
    const [, , name = ""] = old.instanceID.split("/");
    world.deleteInstance(old.instanceID);
    await expect.poll(() => world.resources(world.block(0))).toEqual([]);
    const successor = world.addInstance(name);
    expect(successor).not.toBe(old.instanceID);
    return { old, successor };
  }

  it("the old one is gone", async () => {
    await using world = await GkeWorld.open();
    const { old, successor } = await replaced(world);
    const cloud = await world.cloudOn(successor);
    expect(await cloud.describeInstance(old.instanceID)).toBe("gone");
    expect(await cloud.describeInstance(successor)).toBe("running");
  });

  it("neither fence nor release of the old one touches it", async () => {
    await using world = await GkeWorld.open();
    const { old, successor } = await replaced(world);
    const cloud = await world.cloudOn(successor);
    const instance = await cloud.describeSelf();
    await cloud.provision({ ...old.request, instance }, old.job());
    const { verified, evidence } = await cloud.fence(old.target(), old.job());
    expect(verified).toBe(false);
    expect(evidence).toContain(successor);
    expect((await cloud.release(old.target(), old.job())).released).toEqual([]);
    expect(world.aliasesOf(successor)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  });

  it("the old one gets nothing any more", async () => {
    await using world = await GkeWorld.open();
    const { old, successor } = await replaced(world);
    const cloud = await world.cloudOn(successor);
    await expect(cloud.provision(old.request, old.job())).rejects.toThrow(NotFoundError);
    expect(world.aliasesOf(successor)).toEqual([]);
  });
});

describe("fence", () => {
  it("leaves a larger alias of the instance, and is then not verified", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.addAlias(numberOf(node.instanceID), ours("172.20.0.0/20"));
    const { verified, evidence } = await node.cloud.fence(node.target(), node.job());
    expect(verified).toBe(false);
    expect(evidence).toContain("cocoon-pods:172.20.0.0/20");
    expect(world.aliasesOf(node.instanceID)).toEqual(["cocoon-pods:172.20.0.0/20"]);
  });

  it("counts only the node's subnetwork where that is on record", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const other = world.addInstance();
    world.attachForeign(world.block(0), other);
    const elsewhere = { subnetID: "projects/demo-project/regions/us-central1/subnetworks/other" };
    const here = { subnetID: "projects/demo-project/regions/us-central1/subnetworks/nodes" };
    expect((await node.cloud.fence(node.target(elsewhere), node.job())).verified).toBe(true);
    expect((await node.cloud.fence(node.target(here), node.job())).verified).toBe(false);
    expect((await node.cloud.fence(node.target(), node.job())).verified).toBe(false);
  });

  it("of a node without an instance on record believes a list with something in it, and no other (G8)", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const { instanceID: _, ...rest } = node.target({ subnetID: (await node.provision()).subnetID ?? "" });
    const target = { ...rest, instanceID: undefined };
    expect((await node.cloud.fence(target, node.job())).verified).toBe(false);
    await node.cloud.release(node.target(), node.job());
    expect((await node.cloud.fence(target, node.job())).verified).toBe(true);
    world.simulator.injectFault({ action: "instances.aggregatedList", kind: "empty-list" });
    expect((await node.cloud.fence(target, node.job())).verified).toBe(false);
    const nothing = { node: "n", instanceID: undefined, subnet: world.block(0), eniIDs: [] };
    expect((await node.cloud.fence(nothing, node.job())).verified).toBe(false);
  });
});
