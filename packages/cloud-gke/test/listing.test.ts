import { ConflictError, describeError, InvalidError, UnavailableError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { GkeWorld, numberOf } from "./gke-world.ts";
import { NodeFixture } from "./node-fixture.ts";

const parentCIDR = "172.20.0.0/16";

describe("pod ranges", () => {
  async function rangesAfter(
    secondaryRanges: Readonly<Record<string, string>>,
    options: { readonly subnet: string; readonly parentCIDR?: string },
  ): Promise<unknown> {
    await using world = await GkeWorld.open({ secondaryRanges });
    const node = await NodeFixture.start(world, options);
    const { aliasRangeName } = await node.provision();
    expect(world.aliasesOf(node.instanceID)).toEqual([`${aliasRangeName}:${options.subnet}`]);
    const [subnetwork] = world.simulator.describeState().subnetworks;
    return subnetwork?.secondaryRanges.map(({ rangeName, cidr }) => `${rangeName} ${cidr}`);
  }

  it("grow with the cluster: a further one covers the rest of a wider parent CIDR", async () => {
    expect(
      await rangesAfter({ "cocoon-pods": "172.20.0.0/17" }, { subnet: "172.20.200.0/24", parentCIDR }),
    ).toEqual(["cocoon-pods 172.20.0.0/17", "cocoon-pods-2 172.20.128.0/17"]);
  });

  it("of a node that was alone before are joined by others, as wide as can be", async () => {
    expect(
      await rangesAfter(
        { "cocoon-pods": "172.20.100.0/24", "cocoon-pods-2": "172.20.0.0/18", other: "10.4.0.0/16" },
        { subnet: "172.20.200.0/24", parentCIDR },
      ),
    ).toEqual([
      "cocoon-pods 172.20.100.0/24",
      "cocoon-pods-2 172.20.0.0/18",
      "other 10.4.0.0/16",
      "cocoon-pods-3 172.20.128.0/17",
    ]);
  });

  it("that cover the block are used, whichever it is", async () => {
    expect(
      await rangesAfter(
        { "cocoon-pods": "172.20.0.0/17", "cocoon-pods-2": "172.20.128.0/17" },
        { subnet: "172.20.200.0/24", parentCIDR },
      ),
    ).toHaveLength(2);
  });

  it.each([
    // Somebody else's: another cluster's, or it cannot be told.
    [{ "cocoon-pods": "10.4.0.0/16" }, { subnet: "172.20.0.0/24", parentCIDR }],
    [{ "cocoon-pods": "172.20.0.0/17" }, { subnet: "172.20.200.0/24" }],
    // A range that ends within the block.
    [{ "cocoon-pods": "172.20.0.0/25" }, { subnet: "172.20.0.0/24", parentCIDR }],
  ])("that are not this cluster's to extend are named: %j for %j", async (secondaryRanges, options) => {
    await using world = await GkeWorld.open({ secondaryRanges });
    const node = await NodeFixture.start(world, options);
    const failure = node.provision();
    await expect(failure).rejects.toThrow(ConflictError);
    expect(await failure.then(String, describeError)).toBe(
      `secondary range "cocoon-pods" on subnet nodes is ${secondaryRanges["cocoon-pods"]}, which does not cover ` +
        `--subnet ${options.subnet}; expand the range or choose a --subnet inside it`,
    );
    expect(world.simulator.calls["subnetworks.patch"]).toBeUndefined();
  });

  it("an address that is moved is taken from the range that it is of", async () => {
    await using world = await GkeWorld.open({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/24", "cocoon-pods-2": "172.20.1.0/24" },
    });
    const home = await NodeFixture.start(world, { subnet: world.block(1) });
    const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(0) });
    await home.provision();
    await guest.provision();
    await home.move("172.20.1.77", guest);
    expect(world.aliasesOf(guest.instanceID)).toEqual([
      "cocoon-pods:172.20.0.0/24",
      "cocoon-pods-2:172.20.1.77/32",
    ]);
  });
});

describe("listResources", () => {
  it("shows the aliases of the pod ranges that are in the parent CIDR, and the ranges", async () => {
    await using world = await GkeWorld.open({
      secondaryRanges: { "cocoon-pods": parentCIDR, "cocoon-pods-2": "172.21.0.0/16", gke: "10.4.0.0/16" },
    });
    const home = await NodeFixture.start(world);
    const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1) });
    await home.provision();
    await guest.provision();
    await home.move("172.20.0.0", guest);
    const other = numberOf(world.addInstance());
    world.simulator.addAlias(other, { cidr: "10.4.0.0/24", rangeName: "gke" });
    world.simulator.addAlias(other, { cidr: "172.21.0.0/24", rangeName: "cocoon-pods-2" });
    const { instance } = home.request;
    const found = await home.cloud.listResources({ tags: { a: "b" }, parentCIDR, instance });
    expect(found.filter(({ instanceID }) => instanceID === guest.instanceID)).toEqual([
      expect.objectContaining({ kind: "alias", addresses: ["172.20.1.0/24"], warm: false }),
      expect.objectContaining({ addresses: ["172.20.0.0"], id: "cocoon-pods:172.20.0.0/32@vm-2" }),
    ]);
    expect(found.filter(({ instanceID }) => instanceID === home.instanceID)).toHaveLength(8);
    expect(found.filter(({ kind }) => kind === "subnet")).toEqual([
      {
        id: "projects/demo-project/regions/us-central1/subnetworks/nodes/cocoon-pods",
        kind: "subnet",
        node: undefined,
        madeFor: undefined,
        instanceID: undefined,
        addresses: [parentCIDR],
        warm: false,
      },
    ]);
    expect(found).toHaveLength(11);
  });

  it("is complete, or an error (G8)", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    const request = { tags: {}, parentCIDR, instance: node.request.instance };
    world.simulator.injectFault({ action: "instances.aggregatedList", kind: "empty-list" });
    const failure = node.cloud.listResources(request);
    await expect(failure).rejects.toThrow(UnavailableError);
    await expect(failure).rejects.toThrow("does not show vm-1");
    world.simulator.injectFault({ action: "instances.aggregatedList", kind: "error5xx", times: 2 });
    expect(await node.cloud.listResources(request)).toHaveLength(2);
    world.deleteInstance(node.instanceID);
    await expect.poll(() => node.cloud.describeInstance(node.instanceID)).toBe("gone");
    expect(await node.cloud.listResources(request)).toEqual([]);
    const strange = { ...request, instance: { ...request.instance, instanceID: "i-abc" } };
    await expect(node.cloud.listResources(strange)).rejects.toThrow(InvalidError);
  });
});
