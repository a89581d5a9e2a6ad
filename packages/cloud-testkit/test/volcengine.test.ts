import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type { VolcengineChange } from "@cocoon-net/cloud-testkit";
import { describe, expect, it } from "vitest";
import type { SigningOptions } from "./signed-client.ts";
import { type Account, patience, quick, slow, start, startWithSubnet } from "./volcengine-account.ts";

describe("gateway", () => {
  it("accepts a right signature, with any list of signed headers and any order of the query", async () => {
    await using account = await start();
    expect(await account.refusal("DescribeVpcs")).toBeUndefined();
    expect(await account.refusal("DescribeVpcs", {}, { signHost: true })).toBeUndefined();
    expect(
      await account.refusal("DescribeNetworkInterfaces", { NetworkInterfaceName: "a b!'()*~" }),
    ).toBeUndefined();
  });

  it.each<[string, number, SigningOptions]>([
    ["SignatureDoesNotMatch", 401, { secret: "wrong" }],
    ["InvalidAccessKey", 401, { accessKeyID: "AKOTHER" }],
    ["InvalidTimestamp", 400, { date: new Date(Date.now() - 3_600_000) }],
    ["ServiceNotFound", 404, { service: "nosuch" }],
    ["InvalidActionOrVersion", 404, { service: "ecs" }],
    ["InvalidCredential", 400, { region: "cn-shanghai" }],
  ])("refuses with %s", async (code, status, options) => {
    await using account = await start();
    const answer = await account.client.call("DescribeVpcs", {}, options);
    expect([answer.status, answer.body.ResponseMetadata.Error?.Code]).toEqual([status, code]);
  });

  it("refuses a request without a signature", async () => {
    await using account = await start();
    const response = await fetch(`${account.api}/?Action=DescribeVpcs&Version=2020-04-01`);
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({
      ResponseMetadata: {
        Action: "DescribeVpcs",
        Error: { Code: "MissingAuthenticationToken", CodeN: 100003 },
      },
    });
  });

  it("refuses what a client sends that does not flatten lists or drop undefined values", async () => {
    await using account = await start();
    const repeated = "Action=DescribeVpcs&Version=2020-04-01&VpcIds=a&VpcIds=b";
    expect((await account.client.raw(repeated)).body.ResponseMetadata.Error?.Code).toBe("InvalidParameter");
    expect(await account.refusal("DescribeVpcs", { VpcIds: "a" })).toBe("InvalidParameter");
    expect(await account.refusal("DescribeSubnets", { VpcId: "" })).toBe("InvalidParameter");
  });

  it("throttles by a token bucket for reads and one for writes", async () => {
    let now = Date.now();
    const clock = { now: () => now, after: () => () => {} };
    await using account = await start({ clock, limits: { reads: { perSecond: 1, burst: 2 } } });
    expect(await account.refusal("DescribeVpcs")).toBeUndefined();
    expect(await account.refusal("DescribeVpcs")).toBeUndefined();
    expect((await account.client.call("DescribeVpcs")).status).toBe(429);
    now += 1000;
    expect(await account.refusal("DescribeVpcs")).toBeUndefined();
    expect(account.simulator.calls).toEqual({ DescribeVpcs: 4 });
  });
});

describe("subnets", () => {
  const wanted = (account: Account, cidr: string) => ({
    VpcId: account.simulator.vpcID,
    ZoneId: account.simulator.zone,
    CidrBlock: cidr,
  });

  it("are Pending first, and so is the VPC: another write in it is refused", async () => {
    await using account = await start({ delays: { ...quick, createSubnetMs: slow } });
    const { body } = await account.client.call("CreateSubnet", wanted(account, "172.20.1.0/24"));
    const { Subnets } = await account.run("DescribeSubnets", {
      "SubnetIds.1": String(body.Result?.SubnetId),
    });
    expect(Subnets).toMatchObject([{ Status: "Pending", AvailableIpAddressCount: 253, TotalIpv4Count: 253 }]);
    expect(await account.refusal("CreateSubnet", wanted(account, "172.20.2.0/24"))).toBe(
      "InvalidVpc.InvalidStatus",
    );
  });

  it("do not overlap, and lie in the VPC", async () => {
    await using account = await start();
    await account.run("CreateSubnet", wanted(account, "172.20.1.0/24"));
    expect(await account.refusal("CreateSubnet", wanted(account, "172.20.1.128/25"))).toBe(
      "InvalidCidr.Conflict",
    );
    expect(await account.refusal("CreateSubnet", wanted(account, "10.0.0.0/24"))).toBe(
      "InvalidCidr.Malformed",
    );
    expect(await account.refusal("CreateSubnet", wanted(account, "172.20.2.1/24"))).toBe(
      "InvalidCidr.Malformed",
    );
    expect(await account.refusal("CreateSubnet", wanted(account, "172.20.2.0/30"))).toBe(
      "InvalidCidr.Malformed",
    );
  });

  it("are deleted only when empty", async () => {
    const { account, subnetID, eni } = await startWithSubnet();
    await using _ = account;
    const { NetworkInterfaceId } = await account.run("CreateNetworkInterface", eni);
    expect(await account.refusal("DeleteSubnet", { SubnetId: subnetID })).toBe("InvalidSubnet.InUse");
    await account.run("DeleteNetworkInterface", { NetworkInterfaceId: String(NetworkInterfaceId) });
    await account.run("DeleteSubnet", { SubnetId: subnetID });
    expect(await account.refusal("DescribeSubnetAttributes", { SubnetId: subnetID })).toBe(
      "InvalidSubnet.NotFound",
    );
  });
});

describe("ENIs", () => {
  it("are created with their addresses, and go through every state with its delay", async () => {
    const due: (() => void)[] = [];
    const after = (_: number, run: () => void) => {
      due.push(run);
      return () => {};
    };
    const clock = { now: () => Date.now(), after };
    const { account, eni } = await startWithSubnet({ clock });
    await using _ = account;
    const { instanceID } = account.simulator.addInstance();
    const created = await account.client.call("CreateNetworkInterface", {
      ...eni,
      SecondaryPrivateIpAddressCount: 3,
    });
    const ids = {
      NetworkInterfaceId: String(created.body.Result?.NetworkInterfaceId),
      InstanceId: instanceID,
    };
    const status = () => account.eni(ids.NetworkInterfaceId)?.status;
    const pass = () => due.shift()?.();

    expect(status()).toBe("Creating");
    expect(await account.refusal("AttachNetworkInterface", ids)).toBe("InvalidEni.InvalidStatus");
    pass();
    expect(account.eni(ids.NetworkInterfaceId)).toMatchObject({ status: "Available", instanceID: undefined });
    expect(await account.refusal("DetachNetworkInterface", ids)).toBe("InvalidEni.InstanceMismatch");
    expect(await account.refusal("AttachNetworkInterface", ids)).toBeUndefined();
    expect(status()).toBe("Attaching");
    pass();
    expect(account.eni(ids.NetworkInterfaceId)).toMatchObject({ status: "InUse", instanceID });
    const { NetworkInterfaceId } = ids;
    expect(await account.refusal("DeleteNetworkInterface", { NetworkInterfaceId })).toBe(
      "InvalidEni.InvalidStatus",
    );
    expect(await account.refusal("DetachNetworkInterface", ids)).toBeUndefined();
    expect(account.eni(NetworkInterfaceId)).toMatchObject({ status: "Detaching", instanceID });
    pass();
    expect(await account.refusal("DeleteNetworkInterface", { NetworkInterfaceId })).toBeUndefined();
    expect(status()).toBe("Deleting");
    pass();
    expect(await account.refusal("DescribeNetworkInterfaceAttributes", { NetworkInterfaceId })).toBe(
      "InvalidEniId.NotFound",
    );
  });

  it("look as the API's reference says", async () => {
    const { account, subnetID, eni } = await startWithSubnet();
    await using _ = account;
    const tags = { "Tags.1.Key": "k", "Tags.1.Value": "v" };
    await account.run("CreateNetworkInterface", { ...eni, ...tags, SecondaryPrivateIpAddressCount: 1 });
    const { NetworkInterfaceSets } = await account.run("DescribeNetworkInterfaces", {
      SubnetId: subnetID,
      MaxResults: 5,
    });
    expect(NetworkInterfaceSets).toMatchObject([
      {
        Type: "secondary",
        Status: "Available",
        DeviceId: "",
        MacAddress: expect.stringMatching(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
        PrimaryIpAddress: "172.20.1.2",
        PrivateIpSets: {
          PrivateIpSet: [
            { PrivateIpAddress: "172.20.1.2", Primary: true },
            { PrivateIpAddress: "172.20.1.3", Primary: false },
          ],
        },
        Tags: [{ Key: "k", Value: "v" }],
        CreatedAt: expect.stringMatching(/\+08:00$/),
      },
    ]);
  });

  it("share the space of their subnet, three addresses of which are the platform's", async () => {
    await using account = await start();
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.3.0/29" });
    const eni = { SubnetId: subnetID, "SecurityGroupIds.1": account.simulator.securityGroupID };
    await account.run("CreateNetworkInterface", { ...eni, SecondaryPrivateIpAddressCount: 3 });
    expect(
      await account.refusal("CreateNetworkInterface", { ...eni, SecondaryPrivateIpAddressCount: 1 }),
    ).toBe("InsufficientIpInSubnet");
    await account.run("CreateNetworkInterface", eni);
    expect(await account.refusal("CreateNetworkInterface", eni)).toBe("InsufficientIpInSubnet");
  });

  it("keep to the limits of the instance", async () => {
    const { account, eni } = await startWithSubnet({ limits: { enisPerInstance: 2, addressesPerEni: 3 } });
    await using _ = account;
    const InstanceId = account.simulator.addInstance().instanceID;
    const create = async (count: number) => {
      const result = await account.run("CreateNetworkInterface", {
        ...eni,
        SecondaryPrivateIpAddressCount: count,
      });
      return { InstanceId, NetworkInterfaceId: String(result.NetworkInterfaceId) };
    };
    const [large, fitting, late] = [await create(3), await create(2), await create(2)];
    expect(await account.refusal("AttachNetworkInterface", large)).toBe("LimitExceeded.PrivateIpsPerEni");
    await account.run("AttachNetworkInterface", fitting);
    expect(await account.refusal("AttachNetworkInterface", late)).toBe("LimitExceeded.EnisPerInstance");
    const { NetworkInterfaceId } = fitting;
    const one = { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 1 };
    expect(await account.refusal("AssignPrivateIpAddresses", one)).toBe("LimitExceeded.PrivateIpsPerEni");
    const { InstanceTypes } = await account.run(
      "DescribeInstanceTypes",
      { "InstanceTypeIds.1": "ecs.any" },
      "ecs",
    );
    expect(InstanceTypes).toMatchObject([
      { Network: { MaximumNetworkInterfaces: 2, MaximumPrivateIpv4AddressesPerNetworkInterface: 3 } },
    ]);
  });

  it("get and lose secondary addresses", async () => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    const NetworkInterfaceId = String((await account.run("CreateNetworkInterface", eni)).NetworkInterfaceId);
    const two = { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 2 };
    // Strings, not objects.
    expect(await account.run("AssignPrivateIpAddresses", two)).toMatchObject({
      PrivateIpSet: ["172.20.1.3", "172.20.1.4"],
    });
    const unassign = { NetworkInterfaceId, "PrivateIpAddress.1": "172.20.1.3" };
    await account.run("UnassignPrivateIpAddresses", unassign);
    expect(await account.refusal("UnassignPrivateIpAddresses", unassign)).toBe("InvalidPrivateIp.Malformed");
    expect(account.eni(NetworkInterfaceId)?.addresses).toHaveLength(2);
  });

  it("a client token makes a repeat the same request, and other parameters an error", async () => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    const first = await account.run("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    const second = await account.run("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    expect(second.NetworkInterfaceId).toBe(first.NetworkInterfaceId);
    const other = { ...eni, SecondaryPrivateIpAddressCount: 1, ClientToken: "t" };
    expect(await account.refusal("CreateNetworkInterface", other)).toBe("IdempotentParameterMismatch");
    // Attach takes none.
    expect(
      await account.refusal("AttachNetworkInterface", {
        ClientToken: "t",
        InstanceId: "i",
        NetworkInterfaceId: "e",
      }),
    ).toBe("InvalidParameter");
  });

  it("are listed in pages, by token or by number, never both", async () => {
    await using account = await start();
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    for (let n = 0; n < 25; n++) account.simulator.addEni({ subnetID, addresses: [`172.20.1.${n + 2}`] });
    const seen = new Set<unknown>();
    let token = "";
    for (let pages = 1; ; pages++) {
      const page: Record<string, string | number> =
        token === "" ? { MaxResults: 10 } : { MaxResults: 10, NextToken: token };
      const result = await account.run("DescribeNetworkInterfaces", page);
      for (const eni of Array.isArray(result.NetworkInterfaceSets) ? result.NetworkInterfaceSets : []) {
        seen.add(eni.NetworkInterfaceId);
      }
      token = String(result.NextToken);
      if (token === "") {
        expect(pages).toBe(3);
        break;
      }
    }
    expect(seen.size).toBe(25);
    const last = await account.run("DescribeNetworkInterfaces", { PageNumber: 2 });
    expect(last.TotalCount).toBe(25);
    expect(last.NetworkInterfaceSets).toHaveLength(5);
    expect(await account.refusal("DescribeNetworkInterfaces", { PageNumber: 1, MaxResults: 10 })).toBe(
      "InvalidParameter",
    );
  });

  it("are found by tags", async () => {
    await using account = await start();
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    account.simulator.addEni({ subnetID, addresses: ["172.20.1.2"], tags: { a: "1", b: "1" } });
    account.simulator.addEni({ subnetID, addresses: ["172.20.1.3"], tags: { a: "2", b: "1" } });
    const filter = { "TagFilters.1.Key": "a", "TagFilters.1.Values.1": "2", "TagFilters.2.Key": "b" };
    const { NetworkInterfaceSets } = await account.run("DescribeNetworkInterfaces", filter);
    expect(NetworkInterfaceSets).toMatchObject([{ PrimaryIpAddress: "172.20.1.3" }]);
  });
});

describe("instances", () => {
  it("keep their ENIs when stopped, and leave them behind when deleted", async () => {
    const { account, subnetID } = await startWithSubnet();
    await using _ = account;
    const { instanceID, primaryEniID } = account.simulator.addInstance();
    const { eniID } = account.simulator.addEni({
      subnetID,
      instanceID,
      addresses: ["172.20.1.9", "172.20.1.10"],
    });
    const shown = async () =>
      (await account.run("DescribeInstances", { "InstanceIds.1": instanceID }, "ecs")).Instances;

    account.simulator.stopInstance(instanceID);
    await expect.poll(shown, patience).toMatchObject([{ Status: "STOPPED" }]);
    expect(account.eni(eniID)).toMatchObject({ status: "InUse", instanceID });
    account.simulator.deleteInstance(instanceID);
    await expect.poll(shown, patience).toEqual([]);
    await expect
      .poll(() => account.eni(eniID), patience)
      .toMatchObject({ status: "Available", instanceID: undefined });
    expect(account.eni(eniID)?.addresses).toHaveLength(2);
    expect(account.eni(primaryEniID)).toBeUndefined();
  });

  it("tell listeners of every change, in order, with what was and what is", async () => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    const { instanceID } = account.simulator.addInstance();
    const seen: string[] = [];
    const note = (change: VolcengineChange) => {
      if (change.kind === "eni") seen.push(`${change.what}: ${change.after?.status}`);
      if (change.kind === "instance") seen.push(`instance: ${change.after?.status}`);
    };
    const stop = account.simulator.onChange(note);
    const { NetworkInterfaceId } = await account.run("CreateNetworkInterface", eni);
    const ids = { NetworkInterfaceId: String(NetworkInterfaceId), InstanceId: instanceID };
    await account.run("AttachNetworkInterface", ids);
    await account.run("AssignPrivateIpAddresses", {
      NetworkInterfaceId: ids.NetworkInterfaceId,
      SecondaryPrivateIpAddressCount: 1,
    });
    account.simulator.deleteInstance(instanceID);
    await expect.poll(() => account.eni(NetworkInterfaceId)?.status, patience).toBe("Available");
    stop();
    await account.run("DeleteNetworkInterface", { NetworkInterfaceId: ids.NetworkInterfaceId });
    expect(seen).toEqual([
      "created: Creating",
      "status: Available",
      "status: Attaching",
      "attached: InUse",
      "addresses: InUse",
      "instance: DELETING",
      "instance: undefined",
      // The primary ENI goes with the instance.
      "detached: undefined",
      "status: Detaching",
      "detached: Available",
    ]);
  });
});

/** A GET from another loopback address than the usual one. */
async function getFrom(localAddress: string, url: string): Promise<string> {
  const request = get(url, { localAddress });
  const [response]: IncomingMessage[] = await once(request, "response");
  return response === undefined ? "" : await text(response);
}

describe("metadata", () => {
  it("answers by the address that asks, in both spellings", async () => {
    await using account = await start();
    const { instanceID } = account.simulator.addInstance({ primaryAddress: "127.0.0.2" });
    const { metadata } = await account.simulator.listen({ metadata: { host: "127.0.0.1", port: 0 } });
    const item = (path: string) => getFrom("127.0.0.2", metadata + path);
    expect(await item("/latest/instance_id")).toBe(instanceID);
    expect(await item("/volcstack/latest/Instance_ID")).toBe(instanceID);
    expect(await item("/latest/meta-data/instance-id")).toBe(instanceID);
    expect(await item("/latest/meta-data/placement/availability-zone")).toBe("cn-beijing-a");
    expect(await item("/latest/toString")).toBe("Not Found\n");
  });

  it("knows nobody who is no instance", async () => {
    await using account = await start();
    const { metadata } = await account.simulator.listen({ metadata: { host: "127.0.0.1", port: 0 } });
    expect((await fetch(`${metadata}/latest/instance_id`)).status).toBe(404);
  });
});

describe("inspection", () => {
  it("shows and drives the account over HTTP", async () => {
    await using account = await start();
    const post = (path: string, body?: unknown) =>
      fetch(account.api + path, {
        method: "POST",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    const added = await (
      await post("/sim/instances", { instanceID: "i-new", primaryAddress: "10.0.0.9" })
    ).json();
    expect(added).toMatchObject({ instanceID: "i-new", status: "RUNNING" });
    expect((await post("/sim/instances", { instanceID: "i-new" })).status).toBe(400);
    expect((await post("/sim/instances/i-new/stop")).status).toBe(200);
    expect((await post("/sim/instances/i-nobody/delete")).status).toBe(404);
    const state = await (await fetch(`${account.api}/sim/state`)).json();
    expect(state).toMatchObject({ region: "cn-beijing", instances: [{ instanceID: "i-new" }] });
    expect(await (await fetch(`${account.api}/sim/calls`)).json()).toEqual({});
    expect((await fetch(`${account.api}/sim/nothing`)).status).toBe(400);
  });
});
