import { describe, expect, it } from "vitest";
import { SignedClient } from "./signed-client.ts";
import { quick, slow, start, startWithSubnet } from "./volcengine-account.ts";

const tenth = { perSecond: 0.1, burst: 1 };

describe("what the vendor leaves open is played both ways:", () => {
  it.each([429, 400, 200] as const)("a refusal for the rate with HTTP %i", async (throttleStatus) => {
    await using account = await start({ throttleStatus, limits: { reads: tenth } });
    await account.client.call("DescribeVpcs");
    expect(await account.client.call("DescribeVpcs")).toMatchObject({
      status: throttleStatus,
      body: { ResponseMetadata: { Error: { Code: "FlowLimitExceeded", CodeN: 100018 } } },
    });
  });

  it.each([
    [true, "10"],
    [false, null],
  ])("Retry-After sent: %s", async (retryAfter, seconds) => {
    await using account = await start({ retryAfter, limits: { reads: tenth } });
    await account.client.call("DescribeVpcs");
    expect((await account.client.call("DescribeVpcs")).headers.get("retry-after")).toBe(seconds);
  });

  it("errors of the gateway, in a flat form too", async () => {
    await using account = await start({ gatewayErrors: "flat" });
    const { status, body } = await account.client.call("DescribeVpcs", {}, { secret: "wrong" });
    expect([status, body]).toEqual([
      401,
      { HTTPCode: 401, errorcode: "SignatureDoesNotMatch", message: expect.anything() },
    ]);
    // What the services themselves refuse keeps its form.
    expect(await account.refusal("DescribeSubnetAttributes", { SubnetId: "subnet-x" })).toBe(
      "InvalidSubnet.NotFound",
    );
  });

  it.each([
    ["refuse", "InvalidPrivateIp.Malformed", 3],
    ["partial", "InvalidPrivateIp.Malformed", 2],
    ["ignore", undefined, 2],
  ] as const)("unassigning what is not there: %s", async (unassignMissing, code, left) => {
    const { account, eni } = await startWithSubnet({ unassignMissing });
    await using _ = account;
    const made = await account.run("CreateNetworkInterface", { ...eni, SecondaryPrivateIpAddressCount: 2 });
    const NetworkInterfaceId = String(made.NetworkInterfaceId);
    const unwanted = { "PrivateIpAddress.1": "172.20.1.3", "PrivateIpAddress.2": "172.20.1.99" };
    expect(await account.refusal("UnassignPrivateIpAddresses", { NetworkInterfaceId, ...unwanted })).toBe(
      code,
    );
    expect(account.eni(NetworkInterfaceId)?.addresses).toHaveLength(left);
  });

  it.each([
    ["added", ["172.20.1.4"]],
    ["all", ["172.20.1.3", "172.20.1.4"]],
  ] as const)("what an Assign answers with: %s", async (assignAnswer, addresses) => {
    const { account, eni } = await startWithSubnet({ assignAnswer });
    await using _ = account;
    const made = await account.run("CreateNetworkInterface", { ...eni, SecondaryPrivateIpAddressCount: 1 });
    const one = {
      NetworkInterfaceId: String(made.NetworkInterfaceId),
      SecondaryPrivateIpAddressCount: 1,
    };
    expect((await account.run("AssignPrivateIpAddresses", one)).PrivateIpSet).toEqual(addresses);
  });

  it.each([
    ["omit", undefined],
    ["refuse", "InvalidEniId.NotFound"],
  ] as const)("ids that do not exist in a list: %s", async (unknownIDs, code) => {
    await using account = await start({ unknownIDs });
    const filter = { "NetworkInterfaceIds.1": "eni-x" };
    expect(await account.refusal("DescribeNetworkInterfaces", filter)).toBe(code);
  });

  it.each([
    [true, "LimitExceeded.PrivateIpsPerEni"],
    [false, undefined],
  ])("the limit of addresses counts the primary one: %s", async (limitCountsPrimary, code) => {
    const { account, eni } = await startWithSubnet({ limitCountsPrimary, limits: { addressesPerEni: 3 } });
    await using _ = account;
    const InstanceId = account.simulator.addInstance().instanceID;
    const made = await account.run("CreateNetworkInterface", { ...eni, SecondaryPrivateIpAddressCount: 3 });
    const ids = { InstanceId, NetworkInterfaceId: String(made.NetworkInterfaceId) };
    expect(await account.refusal("AttachNetworkInterface", ids)).toBe(code);
  });

  it.each([
    ["creations", undefined],
    ["writes", "InvalidVpc.InvalidStatus"],
  ] as const)("what a VPC that is Pending refuses: %s", async (pendingVpc, code) => {
    const delays = { ...quick, createSubnetMs: slow };
    const { account, subnetID } = await startWithSubnet({ pendingVpc, delays });
    await using _ = account;
    const { eniID } = account.simulator.addEni({ subnetID, addresses: ["172.20.1.9"] });
    const { vpcID, zone } = account.simulator;
    const wanted = { VpcId: vpcID, ZoneId: zone, CidrBlock: "172.20.2.0/24" };
    expect(await account.refusal("CreateSubnet", wanted)).toBeUndefined();
    expect(await account.refusal("DeleteNetworkInterface", { NetworkInterfaceId: eniID })).toBe(code);
  });

  it("assigning addresses may lock the VPC for a while", async () => {
    const { account, eni } = await startWithSubnet({ delays: { ...quick, assignLockMs: slow } });
    await using _ = account;
    expect(await account.refusal("CreateNetworkInterface", eni)).toBeUndefined();
    expect(await account.refusal("CreateNetworkInterface", eni)).toBe("InvalidVpc.InvalidStatus");
  });

  it("a client token may be forgotten", async () => {
    const { account, eni } = await startWithSubnet({ delays: { ...quick, clientTokenMs: 0 } });
    await using _ = account;
    const first = await account.run("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    const second = await account.run("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    expect(second.NetworkInterfaceId).not.toBe(first.NetworkInterfaceId);
  });

  it("tags and members of a security group have limits", async () => {
    const limits = { tagsPerResource: 1, addressesPerSecurityGroup: 2 };
    const { account, eni } = await startWithSubnet({ limits });
    await using _ = account;
    const two = { "Tags.1.Key": "a", "Tags.1.Value": "1", "Tags.2.Key": "b", "Tags.2.Value": "2" };
    expect(await account.refusal("CreateNetworkInterface", { ...eni, ...two })).toBe("QuotaExceeded.Tag");
    const three = { ...eni, SecondaryPrivateIpAddressCount: 2 };
    expect(await account.refusal("CreateNetworkInterface", three)).toBe("QuotaExceeded.SecurityGroupIp");
  });
});

describe("metadata", () => {
  async function open(options: Parameters<typeof start>[0]) {
    const account = await start(options);
    const { instanceID } = account.simulator.addInstance();
    const at = { host: "127.0.0.1", port: 0, instanceID };
    const { metadata } = await account.simulator.listen({ metadata: at });
    const get = (path: string, headers: Record<string, string> = {}) =>
      fetch(`${metadata}${path}`, { headers });
    return { account, instanceID, get, metadata };
  }

  it.each([
    ["both", 200, 200],
    ["underscores", 200, 404],
    ["hyphens", 404, 200],
  ] as const)("items are spelt with %s", async (metadataItems, underscores, hyphens) => {
    const { account, get } = await open({ metadataItems });
    await using _ = account;
    expect((await get("/latest/instance_id")).status).toBe(underscores);
    expect((await get("/latest/meta-data/instance-id")).status).toBe(hyphens);
  });

  it.each([
    ["optional", 200, 200],
    ["required", 401, 200],
    ["none", 200, 404],
  ] as const)("tokens are %s", async (metadataTokens, without, put) => {
    const { account, get, metadata } = await open({ metadataTokens });
    await using _ = account;
    expect((await get("/latest/instance_id")).status).toBe(without);
    const headers = { "x-volc-ecs-metadata-token-ttl-seconds": "60" };
    const issued = await fetch(`${metadata}/latest/api/token`, { method: "PUT", headers });
    expect(issued.status).toBe(put);
    if (put === 404) return;
    const token = { "x-volc-ecs-metadata-token": await issued.text() };
    expect((await get("/latest/instance_id", token)).status).toBe(200);
    expect((await get("/latest/instance_id", { "x-volc-ecs-metadata-token": "x" })).status).toBe(401);
  });

  it("lists NICs in other forms, and those of others", async () => {
    const { account, get } = await open({ macSeparator: "-", foreignNics: true });
    await using _ = account;
    const macs = (await (await get("/latest/network/interfaces/macs")).text()).trim().split("\n");
    expect(macs).toHaveLength(3);
    const own = await (await get("/latest/mac")).text();
    expect(own).toMatch(/^([0-9a-f]{2}-){5}[0-9a-f]{2}$/);
    const info = await (await get(`/latest/network/interfaces/macs/${own}/network_info`)).json();
    expect(info).toMatchObject({ SubnetCidrBlock: "172.31.0.0/20", Gateway: "172.31.0.1" });
  });

  it("lags behind the API", async () => {
    let now = Date.now();
    const clock = { now: () => now, after: () => () => {} };
    const { account, instanceID, get } = await open({ clock, delays: { metadataLagMs: 1000 } });
    await using _ = account;
    const macs = async () => (await (await get("/latest/network/interfaces/macs")).text()).trim().split("\n");
    now += 2000;
    expect(await macs()).toHaveLength(1);
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    account.simulator.addEni({ subnetID, instanceID, addresses: ["172.20.1.9"] });
    expect(await macs()).toHaveLength(1);
    now += 1000;
    expect(await macs()).toHaveLength(2);
  });

  it("issues keys for the instances' role, which expire and can be revoked", async () => {
    let now = Date.now();
    const clock = { now: () => now, after: () => () => {} };
    const { account, get } = await open({ clock, role: { name: "Net-Role", lifetimeMs: 60_000 } });
    await using _ = account;
    const path = "/volcstack/latest/iam/security_credentials";
    expect(await (await get(`${path}?type=user`)).text()).toBe("Net-Role");
    expect(await (await get(`${path}?type=user&format=json`)).json()).toEqual(["Net-Role"]);
    expect((await get(`${path}/other`)).status).toBe(404);
    const issue = async () => {
      const key: unknown = await (await get(`${path}/Net-Role`)).json();
      const fields = new Map(Object.entries(key ?? {}));
      const field = (name: string) => String(fields.get(name));
      expect(field("ExpiredTime")).toMatch(/\+08:00$/);
      const signing = {
        accessKeyID: field("AccessKeyId"),
        secret: field("SecretAccessKey"),
        sessionToken: field("SessionToken"),
        date: new Date(now),
      };
      return (more: { sessionToken?: string } = {}) =>
        new SignedClient(account.api).call("DescribeVpcs", {}, { ...signing, date: new Date(now), ...more });
    };
    const first = await issue();
    expect((await first()).status).toBe(200);
    const wrong = await first({ sessionToken: "x" });
    expect([wrong.status, wrong.body.ResponseMetadata.Error?.Code]).toEqual([401, "InvalidSecretToken"]);
    now += 60_000;
    expect((await first()).status).toBe(401);
    const second = await issue();
    expect((await second()).status).toBe(200);
    account.simulator.revokeRoleCredentials();
    expect((await second()).status).toBe(401);
    expect((await (await issue())()).status).toBe(200);
  });
});

describe("tags", () => {
  it("are added, listed, taken away", async () => {
    await using account = await start();
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    const made = ["172.20.1.2", "172.20.1.3"].map((address) =>
      account.simulator.addEni({ subnetID, addresses: [address], tags: { a: "1" } }),
    );
    const [one = "", two = ""] = made.map(({ eniID }) => eniID);
    const both = { ResourceType: "eni", "ResourceIds.1": one, "ResourceIds.2": two };
    await account.run("TagResources", { ...both, "Tags.1.Key": "b", "Tags.1.Value": "2" });
    await account.run("UntagResources", { ResourceType: "eni", "ResourceIds.1": two, "TagKeys.1": "a" });
    const filter = { ResourceType: "eni", "TagFilters.1.Key": "b", MaxResults: 2 };
    const page = await account.run("DescribeNetworkInterfaces", { "TagFilters.1.Key": "a" });
    expect(page.NetworkInterfaceSets).toMatchObject([{ NetworkInterfaceId: one }]);
    const { ResourceTags, NextToken } = await account.run("ListTagsForResources", filter);
    expect(ResourceTags).toEqual([
      { ResourceType: "eni", ResourceId: one, TagKey: "a", TagValue: "1" },
      { ResourceType: "eni", ResourceId: one, TagKey: "b", TagValue: "2" },
    ]);
    const rest = await account.run("ListTagsForResources", { ...filter, NextToken: String(NextToken) });
    expect(rest).toMatchObject({
      ResourceTags: [{ ResourceId: two, TagKey: "b", TagValue: "2" }],
      NextToken: "",
    });
    expect(await account.refusal("TagResources", { ...both, "Tags.1.Key": "volc:x" })).toBe(
      "InvalidParameter",
    );
  });
});

it("a denied action is named", async () => {
  await using account = await start({ denied: ["CreateSubnet"] });
  const { status, body } = await account.client.call("CreateSubnet");
  expect(status).toBe(403);
  expect(JSON.stringify(body)).toContain("vpc:CreateSubnet");
  await expect(start({ denied: ["MakeSubnet"] })).rejects.toThrow(/no action MakeSubnet/);
});

it("a bucket of one action is beside those of all", async () => {
  await using account = await start({ limits: { actions: { DescribeVpcs: tenth } } });
  await account.run("DescribeVpcs");
  expect(await account.refusal("DescribeVpcs")).toBe("AccountFlowLimitExceeded");
  await account.run("DescribeSubnets");
});
