import { GceSimulator } from "@cocoon-net/cloud-testkit";
import {
  AuthError,
  CocoonError,
  ConflictError,
  describeError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
} from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import driver from "../src/driver.ts";
import { Metadata } from "../src/metadata.ts";
import { VolcengineCloud } from "../src/volcengine-cloud.ts";
import { NodeFixture } from "./node-fixture.ts";
import { impatient, unlimited, VolcengineWorld } from "./volcengine-world.ts";

/** The one line that the operator reads. */
async function lineOf(
  failing: Promise<unknown>,
  type: new (...given: never[]) => CocoonError,
): Promise<string> {
  const error = await failing.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(type);
  const line = describeError(error);
  expect(line).not.toContain("\n");
  return line;
}

describe("one clear line, and nothing half-done that is not on record:", () => {
  it("a key without a permission: the action is named", async () => {
    await using world = await VolcengineWorld.open({ denied: ["AttachNetworkInterface"] });
    const node = await NodeFixture.start(world);
    const job = node.job();
    expect(await lineOf(node.provision(job), AuthError)).toMatch(
      /^AttachNetworkInterface eni-\S+ was refused: AccessDenied: .*; grant vpc:AttachNetworkInterface to the access key$/,
    );
    // What was made is on record, and tagged: a release finds it.
    const made = job.written.filter(
      ({ action, phase }) => action === "CreateNetworkInterface" && phase === "done",
    );
    expect(made.map(({ detail }) => detail?.eniID).sort()).toEqual(
      [...world.resources(world.block(0))].sort(),
    );
    const { remaining } = await node.cloud.release(node.target(), node.job());
    expect(remaining).toEqual([]);
    expect(world.resources(world.block(0))).toEqual([]);
  });

  it("a subnet that the cloud refuses to make: nothing is there, so that nothing is left to be fenced", async () => {
    await using world = await VolcengineWorld.open({ denied: ["CreateSubnet"] });
    const node = await NodeFixture.start(world);
    const job = node.job();
    expect(await lineOf(node.provision(job), AuthError)).toMatch(/grant vpc:CreateSubnet to the access key$/);
    const fence = await node.cloud.fence(node.target(), job.restarted());
    expect(fence).toMatchObject({
      verified: true,
      evidence: expect.stringMatching(/is running; .* has none$/),
    });
    expect(await node.cloud.release(node.target(), job.restarted())).toEqual({ released: [], remaining: [] });
    // G8: without that on record, or with something on record, a subnet that is not to be seen proves nothing.
    expect((await node.cloud.fence(node.target(), node.job())).verified).toBe(false);
    const recorded = node.target({ subnetID: "subnet-1" });
    expect((await node.cloud.fence(recorded, job.restarted())).verified).toBe(false);
    const withEni = node.target({ eniIDs: ["eni-1"] });
    expect((await node.cloud.fence(withEni, job.restarted())).verified).toBe(false);
  });

  it("a key that may not ask for the limits: the well-known ones are assumed, and that is said", async () => {
    await using world = await VolcengineWorld.open({ denied: ["DescribeInstanceTypes"] });
    const node = await NodeFixture.start(world);
    expect((await node.provision()).addresses).toHaveLength(25);
    expect(node.progress.join("\n")).toMatch(/AccessDenied.*\nassuming 8 ENIs with 20 secondary addresses/);
  });

  it.each([
    [
      { enisPerRegion: 0 },
      /QuotaExceeded\.Eni: .*\(in use: 0 secondary ENIs of the account\); delete unused ENIs/,
    ],
    [{ subnetsPerVpc: 1 }, /QuotaExceeded\.Subnet: .*\(in use: 1 subnets of vpc-\S+\); raise/],
    [
      { enisPerInstance: 1 },
      /i-\S+ \(\S+\) has no room: it has 1 other ENIs and may have 1, each with 20 addresses for VMs; detach/,
    ],
    [
      { addressesPerSecurityGroup: 3 },
      /QuotaExceeded\.SecurityGroupIp: .*\(in use: 1 addresses of sg-\S+\); raise the account's quota/,
    ],
  ])("a quota that is used up is named, with what is in use: %j", async (limits, line) => {
    await using world = await VolcengineWorld.open({ limits });
    const node = await NodeFixture.start(world);
    expect(await lineOf(node.provision(), ExhaustedError)).toMatch(line);
    expect(world.resources(world.block(0))).toEqual([]);
  });

  it("a subnet that has room for some: those are given, and what is missing is said", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world, { subnet: "172.20.9.0/27", poolSize: 140 });
    const network = await node.provision();
    // Of 32 the platform has 3, and each of the two ENIs has one.
    expect(network.addresses).toHaveLength(27);
    expect(network.short?.addresses).toBe(113);
    expect(network.short?.reason).toMatch(
      /^the subnet subnet-\S+ \(172\.20\.9\.0\/27\) has 0 free addresses left$/,
    );
  });

  it("an instance that has room for some: those are given, and what is missing is said", async () => {
    await using world = await VolcengineWorld.open({ limits: { enisPerInstance: 3, addressesPerEni: 6 } });
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    expect(network.addresses).toHaveLength(10);
    expect(network.short).toMatchObject({
      addresses: 15,
      reason: expect.stringMatching(/it has 1 other ENIs and may have 3, each with 5 addresses for VMs$/),
    });
  });

  it("an address by name that somebody has, or that is not of the subnet", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    await node.provision();
    const foreign = world.addForeign(world.block(0));
    const grow = (address: string) =>
      node.cloud.provision({ ...node.request, addresses: [address] }, node.job());
    expect(await lineOf(grow("172.20.0.254"), ConflictError)).toBe(
      `172.20.0.254 is in use: ${foreign} has it; ask for other addresses`,
    );
    expect(await lineOf(grow("172.20.1.9"), InvalidError)).toBe(
      "172.20.1.9 is not an address of 172.20.0.0/24",
    );
  });

  it("an ENI in the subnet that another instance has", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const other = world.addInstance();
    world.attachForeign(world.block(0), other);
    expect(await lineOf(node.provision(), ConflictError)).toMatch(
      new RegExp(
        `^the subnet subnet-\\S+ \\(172.20.0.0/24\\) is in use: eni-\\S+ is attached to ${other}; choose`,
      ),
    );
  });

  it("but for one with nothing that has not been moved to it on purpose", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const addresses = ["172.20.0.250", "172.20.0.251"];
    world.simulator.addEni({
      subnetID: world.subnetID(world.block(0)),
      instanceID: world.addInstance(),
      addresses,
    });
    await lineOf(node.provision(), ConflictError);
    const request = { ...node.request, movedAway: ["172.20.0.251"] };
    expect((await node.cloud.provision(request, node.job())).addresses).toHaveLength(25);
  });

  it("a subnet that is another cluster's", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    world.simulator.addSubnet({ cidr: world.block(0), tags: { "cocoon-net:cluster": "other" } });
    expect(await lineOf(node.provision(), ConflictError)).toMatch(
      /belongs to the cluster other; choose another --subnet/,
    );
  });

  it("a machine that is on another cloud, or on none", async () => {
    await using gce = new GceSimulator();
    gce.addInstance({ name: "vm" });
    const at = { host: "127.0.0.1", port: 0 };
    const { metadata = "" } = await gce.listen({ metadata: { ...at, instance: "vm" } });
    expect(await new Metadata(metadata, impatient).answers()).toBe(false);
    const on = (endpoint: string) =>
      new VolcengineCloud(
        { COCOON_NET_METADATA_ENDPOINT: endpoint },
        { timing: { ...impatient, metadataMs: 50 }, budget: unlimited() },
      );
    await using elsewhere = on(metadata);
    expect(await lineOf(elsewhere.describeSelf(), CocoonError)).toMatch(
      /; run this on a Volcengine instance/,
    );
    await using nowhere = on("http://127.0.0.1:1");
    expect(await lineOf(nowhere.describeSelf(), CocoonError)).toMatch(
      /does not answer; run this on a Volcengine/,
    );
  });

  it("an instance that the account does not have", async () => {
    await using world = await VolcengineWorld.open();
    const node = await NodeFixture.start(world);
    const instance = { ...node.request.instance, instanceID: "i-elsewhere" };
    for (const failing of [
      () => node.cloud.describeLimits(instance),
      () => node.cloud.provision({ ...node.request, instance }, node.job()),
    ]) {
      expect(await lineOf(failing(), NotFoundError)).toMatch(
        /no instance i-elsewhere.*; use an access key of the account/,
      );
    }
  });

  it("a platform that is not this one", () => {
    expect(() => driver.open("gke")).toThrow(/knows volcengine, not "gke"/);
  });
});
