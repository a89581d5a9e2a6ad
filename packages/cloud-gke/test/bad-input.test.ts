import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GceSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { describeError, type ProvisionRequest } from "@cocoon-net/core";
import { describe, expect, it, onTestFinished } from "vitest";
import { GkeWorld, numberOf } from "./gke-world.ts";
import { NodeFixture } from "./node-fixture.ts";

interface Case {
  readonly name: string;
  readonly line: RegExp;
  readonly world?: GceSimulatorOptions;
  readonly env?: Readonly<Record<string, string>>;
  readonly request?: (request: ProvisionRequest) => ProvisionRequest;
  /** Somebody else's doing, before. */
  readonly before?: (world: GkeWorld, node: NodeFixture) => void;
  /** A request was made, and is on record. */
  readonly asked?: boolean;
}

function at(part: string, other: string): (request: ProvisionRequest) => ProvisionRequest {
  return (request) => {
    const instanceID = request.instance.instanceID.replace(part, other);
    return { ...request, instance: { ...request.instance, instanceID } };
  };
}

const cases: readonly Case[] = [
  {
    name: "no credentials",
    env: { GOOGLE_APPLICATION_CREDENTIALS: "/nonexistent/key.json" },
    line: /^cannot read the Google key file \/nonexistent\/key.json: it does not exist; check GOOGLE_APPLICATION_/,
  },
  {
    name: "another project",
    request: at("demo-project", "other-project"),
    line: /^instances.get vm-1 was refused: notFound: The resource 'projects\/other-project' was not found; check the project/,
  },
  {
    name: "another zone",
    request: at("us-central1-a", "mars-north1-a"),
    line: /^instances.get vm-1 was refused: invalid: .*'mars-north1-a'. Unknown zone; check the project, the zone/,
  },
  {
    name: "an instance that there is not",
    request: at("/vm-1/", "/vm-9/"),
    line: /^the project demo-project has no instance vm-9 \(\d+\) in us-central1-a; use credentials of/,
  },
  {
    name: "no permission to read the instance",
    world: { denied: ["compute.instances.get"] },
    line: /^instances.get vm-1 was refused: forbidden: Required 'compute.instances.get' permission for .*; grant it, /,
  },
  {
    name: "no permission to change the instance",
    world: { denied: ["compute.instances.updateNetworkInterface"] },
    line: /Required 'compute.instances.updateNetworkInterface' permission for 'projects\/demo-project\/.*'; grant it/,
    asked: true,
  },
  {
    name: "no permission to add the range",
    world: { denied: ["compute.subnetworks.update"], secondaryRanges: {} },
    line: /'compute.subnetworks.update' permission .*; grant it, or add the range yourself: gcloud .*=172.20.0.0\/24$/,
    asked: true,
  },
  {
    name: "a range of somebody else where the pod range would be",
    world: { secondaryRanges: { theirs: "172.20.0.0/16" } },
    line: /overlaps with the range 172.20.0.0\/16; choose a --subnet, or a parent CIDR for the cluster, that is free/,
    asked: true,
  },
  {
    name: "a pod range of somebody else",
    world: { secondaryRanges: { "cocoon-pods": "10.4.0.0/16" } },
    line: /^secondary range "cocoon-pods" on subnet nodes is 10.4.0.0\/16, which does not cover --subnet 172.20.0.0\/24; /,
  },
  {
    name: "the network's quota",
    world: { limits: { aliasRangesPerNetwork: 1 } },
    before: (world) => {
      const cidr = "10.128.1.1/32";
      world.simulator.addAlias(numberOf(world.addInstance()), { cidr, rangeName: undefined });
    },
    line: /'ALIASES_PER_NETWORK_GLOBAL' exceeded. Limit: 1.0 globally. \(the instances of demo-project have 1 alias ranges\); have/,
    asked: true,
  },
  {
    name: "the interface's limit",
    env: { COCOON_NET_GCE_ALIAS_RANGES_PER_NIC: "1" },
    before: (world, node) => {
      const cidr = "10.128.1.1/32";
      world.simulator.addAlias(numberOf(node.instanceID), { cidr, rangeName: undefined });
    },
    line: /^the interface of vm-1 has 1 alias ranges and would have 2, of at most 1; /,
  },
  {
    name: "a block that another node has",
    before: (world) => world.attachForeign(world.block(0), world.addInstance()),
    line: /already being used by another resource. \(cocoon-pods:172.20.0.252\/32 is on demo-project\/.*\); drain or reclaim/,
    asked: true,
  },
];

describe("one clear line, and nothing half-done", () => {
  it.each(cases)("for $name", async (one) => {
    await using world = await GkeWorld.open(one.world);
    const node = await NodeFixture.start(world);
    one.before?.(world, node);
    const cloud = await world.cloudOn(node.instanceID, {}, { env: one.env ?? {} });
    const job = node.job();
    const request = one.request?.(node.request) ?? node.request;
    const had = world.aliasesOf(node.instanceID);
    const line = await cloud.provision(request, job).then(() => "it went well", describeError);
    expect(line).toMatch(one.line);
    expect(line).not.toContain("\n");
    expect(world.aliasesOf(node.instanceID)).toEqual(had);
    expect(job.written.map(({ phase }) => phase)).toEqual(one.asked ? ["intent", "failed"] : []);
  });

  it("for a node that is on another cloud, or on none", async () => {
    await using world = await GkeWorld.open();
    const node = await NodeFixture.start(world);
    const instance = { ...node.request.instance, instanceID: "i-abc" };
    const line = await node.cloud
      .provision({ ...node.request, instance }, node.job())
      .then(String, describeError);
    expect(line).toBe(
      '"i-abc" is not a Compute Engine instance; give PROJECT/ZONE/NAME/NUMERIC-ID, as describeSelf does',
    );
    const env = { COCOON_NET_METADATA_ENDPOINT: world.api };
    const cloud = await world.cloudOn(node.instanceID, { metadataMs: 1_000 }, { env });
    expect(await cloud.describeSelf().then(String, describeError)).toMatch(
      /^the metadata server at http:\/\/127.0.0.1:\d+ is not Google's: .*; run this on a Compute Engine instance/,
    );
  });

  it("for a token that is refused", async () => {
    await using world = await GkeWorld.open();
    const directory = await mkdtemp(join(tmpdir(), "cocoon-net-key-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const file = join(directory, "key.json");
    await writeFile(file, JSON.stringify({ type: "authorized_user", client_id: "i", client_secret: "s" }));
    const node = await NodeFixture.start(world);
    const env = { GOOGLE_APPLICATION_CREDENTIALS: file };
    const cloud = await world.cloudOn(node.instanceID, {}, { env });
    const line = await cloud.provision(node.request, node.job()).then(String, describeError);
    expect(line).toMatch(
      /^the Google key file .* has no refresh_token; check GOOGLE_APPLICATION_CREDENTIALS/,
    );
  });

  it.each(["0", "-1", "1.5", "many"])("for %s alias ranges per interface", async (text) => {
    await using world = await GkeWorld.open();
    const env = { COCOON_NET_GCE_ALIAS_RANGES_PER_NIC: text };
    await expect(world.cloudOn(world.addInstance(), {}, { env })).rejects.toThrow(
      `COCOON_NET_GCE_ALIAS_RANGES_PER_NIC "${text}" is not a whole number above 0`,
    );
  });
});
