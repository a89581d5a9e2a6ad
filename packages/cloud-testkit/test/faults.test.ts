import { describe, expect, it } from "vitest";
import { GceClient, reason } from "./gce-client.ts";
import { patience, quick, start, startWithSubnet } from "./volcengine-account.ts";

describe("faults at Volcengine", () => {
  it("refuse, with the code that is asked for", async () => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    account.simulator.injectFault({ kind: "refuse", code: "QuotaExceeded.Eni" });
    expect(await account.refusal("DescribeVpcs")).toBeUndefined();
    expect(await account.refusal("CreateNetworkInterface", eni)).toBe("QuotaExceeded.Eni");
    expect(account.simulator.callResults).toEqual({
      DescribeVpcs: { ok: 1 },
      CreateNetworkInterface: { "QuotaExceeded.Eni": 1 },
    });
  });

  it("throttle, and say for how long", async () => {
    await using account = await start();
    account.simulator.injectFault({ kind: "throttle", action: "DescribeVpcs", retryAfterSeconds: 7 });
    const { headers } = await account.client.call("DescribeVpcs");
    expect(headers.get("retry-after")).toBe("7");
  });

  it("are done, although the answer is lost, late or an error", async () => {
    const { account, subnetID, eni } = await startWithSubnet();
    await using _ = account;
    const count = () => account.simulator.describeState().enis.length;
    account.simulator.injectFault({ kind: "lost-answer" });
    await expect(account.client.call("CreateNetworkInterface", eni)).rejects.toThrow("fetch failed");
    account.simulator.injectFault({ kind: "late-5xx" });
    const late = await account.client.call("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    expect([late.status, late.body.ResponseMetadata.Error?.Code]).toEqual([504, "InternalServiceTimeout"]);
    expect(count()).toBe(2);
    await account.run("CreateNetworkInterface", { ...eni, ClientToken: "t" });
    expect(count()).toBe(2);
    account.simulator.injectFault({ kind: "late-hang" });
    const signal = AbortSignal.timeout(100);
    await expect(account.client.call("CreateNetworkInterface", eni, { signal })).rejects.toThrow();
    expect(count()).toBe(3);
    expect(account.simulator.callResults.CreateNetworkInterface).toEqual({
      lost: 1,
      InternalServiceTimeout: 1,
      ok: 1,
      hang: 1,
    });
    expect(subnetID).not.toBe("");
  });

  it("do half of a batch", async () => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    const NetworkInterfaceId = String((await account.run("CreateNetworkInterface", eni)).NetworkInterfaceId);
    const addresses = () => account.eni(NetworkInterfaceId)?.addresses.length;
    account.simulator.injectFault({ kind: "half-done", times: 2 });
    const four = { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 4 };
    expect(await account.refusal("AssignPrivateIpAddresses", four)).toBe("InternalError");
    expect(addresses()).toBe(3);
    const both = { "PrivateIpAddress.1": "172.20.1.3", "PrivateIpAddress.2": "172.20.1.4" };
    expect(await account.refusal("UnassignPrivateIpAddresses", { NetworkInterfaceId, ...both })).toBe(
      "InternalError",
    );
    expect(addresses()).toBe(2);
  });

  it("let a change fail after it was accepted", async () => {
    const { account, eni, subnetID } = await startWithSubnet();
    await using _ = account;
    const { instanceID } = account.simulator.addInstance();
    const { eniID } = account.simulator.addEni({ subnetID, addresses: ["172.20.1.9"] });
    const ids = { InstanceId: instanceID, NetworkInterfaceId: eniID };
    account.simulator.injectFault({ kind: "fails-later", times: 2 });
    await account.run("AttachNetworkInterface", ids);
    expect(account.eni(eniID)).toMatchObject({ status: "Available", instanceID: undefined });
    const made = await account.client.call("CreateNetworkInterface", eni);
    const failed = made.body.Result?.NetworkInterfaceId;
    await expect.poll(() => account.eni(failed)?.status, patience).toBe("Error");
    expect(await account.refusal("DeleteNetworkInterface", { NetworkInterfaceId: String(failed) })).toBe(
      undefined,
    );
    await account.run("AttachNetworkInterface", ids);
    expect(account.eni(eniID)).toMatchObject({ status: "InUse", instanceID });
  });

  it("show a list as it was: when the rule was made, some time ago, or never", async () => {
    let now = Date.now();
    const clock = { now: () => now, after: () => () => {} };
    await using account = await start({ clock });
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    const add = (n: number) => account.simulator.addEni({ subnetID, addresses: [`172.20.1.${n}`] });
    const list = async () => {
      const { body } = await account.client.call("DescribeNetworkInterfaces", {}, { date: new Date(now) });
      return body.Result?.NetworkInterfaceSets;
    };
    const { eniID } = add(2);
    account.simulator.injectFault({ kind: "stale-list" });
    now += 1000;
    add(3);
    expect(await list()).toMatchObject([{ NetworkInterfaceId: eniID }]);
    expect(await list()).toHaveLength(2);
    account.simulator.injectFault({ kind: "stale-list", staleMs: 500 });
    expect(await list()).toHaveLength(1);
    account.simulator.injectFault({ kind: "empty-list" });
    expect(await list()).toEqual([]);
    account.simulator.injectFault({ kind: "stale-list", staleMs: 1 });
    now += 500;
    expect(await list()).toHaveLength(2);
  });

  it("lists may lag behind all the time", async () => {
    let now = Date.now();
    const clock = { now: () => now, after: () => () => {} };
    await using account = await start({ clock, delays: { ...quick, listLagMs: 1000 } });
    const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
    const list = async () => {
      const { body } = await account.client.call("DescribeSubnets", {}, { date: new Date(now) });
      return JSON.stringify(body.Result?.Subnets);
    };
    expect(await list()).not.toContain(subnetID);
    now += 1001;
    expect(await list()).toContain(subnetID);
  });

  it("hit by chance, the same for the same seed", async () => {
    const play = async (seed: number): Promise<string> => {
      await using account = await start({ seed });
      account.simulator.injectFault({ kind: "throttle", action: "DescribeVpcs", probability: 0.5 });
      let results = "";
      for (let n = 0; n < 24; n++) results += (await account.refusal("DescribeVpcs")) ? "x" : ".";
      return results;
    };
    const first = await play(7);
    expect(first).toMatch(/x.*\..*x/);
    expect(await play(7)).toBe(first);
    expect(await play(8)).not.toBe(first);
  });

  it("are made, shown and ended over HTTP, and refused when they could never hit", async () => {
    await using account = await start();
    const send = async (method: string, body?: unknown) => {
      const given = body === undefined ? {} : { body: JSON.stringify(body) };
      const response = await fetch(`${account.api}/sim/faults`, { method, ...given });
      return [response.status, await response.json()];
    };
    const rule = { kind: "throttle", action: "CreateSubnet", times: 3 };
    expect(await send("POST", rule)).toEqual([200, [rule]]);
    await account.refusal("CreateSubnet");
    expect(await send("GET")).toEqual([200, [{ ...rule, times: 2 }]]);
    expect(await send("DELETE")).toEqual([200, []]);
    for (const [bad, why] of [
      [{ kind: "explode" }, /kind is "explode"/],
      [{ kind: "throttle", action: "MakeCoffee" }, /no such action/],
      [{ kind: "throttle", times: "two" }, /times is "two"/],
      [{ kind: "throttle", colour: "red" }, /colour is "red"/],
      [{ kind: "refuse" }, /give the vendor's code/],
    ] as const) {
      const [status, answer] = await send("POST", bad);
      expect(status).toBe(400);
      expect(JSON.stringify(answer).replaceAll("\\", "")).toMatch(why);
    }
  });
});

it("delays vary, the same for the same seed", async () => {
  const delaysOf = async (seed: number) => {
    const seen: number[] = [];
    const after = (ms: number) => {
      seen.push(ms);
      return () => {};
    };
    const delays = { ...quick, instanceMs: 1000 };
    await using account = await start({ seed, jitter: 0.5, delays, clock: { now: () => Date.now(), after } });
    for (let n = 0; n < 3; n++) account.simulator.stopInstance(account.simulator.addInstance().instanceID);
    return seen;
  };
  const one = await delaysOf(1);
  expect(await delaysOf(1)).toEqual(one);
  expect(await delaysOf(2)).not.toEqual(one);
  for (const ms of one) expect(Math.abs(ms - 1000)).toBeLessThanOrEqual(500);
});

describe("a test stops at a request", () => {
  it.each([
    ["before", 0],
    ["after", 1],
  ] as const)("%s it is applied", async (when, made) => {
    const { account, eni } = await startWithSubnet();
    await using _ = account;
    const held = account.simulator.hold(1, when);
    const before = account.simulator.describeState().enis.length;
    const abort = new AbortController();
    await account.run("TagResources", {
      ResourceType: "eni",
      "ResourceIds.1": account.simulator.addEni({
        subnetID: eni.SubnetId,
        addresses: ["172.20.1.9"],
      }).eniID,
      "Tags.1.Key": "a",
      "Tags.1.Value": "b",
    });
    const call = account.client.call("CreateNetworkInterface", eni, { signal: abort.signal });
    await held.reached;
    abort.abort(new Error("stopped"));
    await expect(call).rejects.toThrow("stopped");
    expect(account.simulator.describeState().enis).toHaveLength(before + 1 + made);
    expect(account.simulator.faults).toEqual([]);
  });
});

describe("faults at Compute Engine", () => {
  async function withAliases(): Promise<GceClient> {
    const client = await GceClient.open();
    client.simulator.addInstance({ name: "n" });
    return client;
  }
  const two = ["pods:10.4.1.0/24", "pods:10.4.2.0/24"];

  it("end an operation in an error, with nothing done or half of it", async () => {
    const client = await withAliases();
    client.simulator.injectFault({ kind: "fails-later", code: "ZONE_RESOURCE_POOL_EXHAUSTED" });
    const failed = await client.wait(await client.setAliases("n", two));
    expect(failed).toMatchObject({
      status: 200,
      body: { status: "DONE", error: { errors: [{ code: "ZONE_RESOURCE_POOL_EXHAUSTED" }] } },
    });
    expect(client.aliases("n")).toEqual([]);
    client.simulator.injectFault({ kind: "half-done", times: 2 });
    expect((await client.wait(await client.setAliases("n", two))).body).toMatchObject({
      error: { errors: [{ code: "INTERNAL_ERROR" }] },
      httpErrorMessage: "INTERNAL ERROR",
    });
    expect(client.aliases("n")).toEqual(two.slice(0, 1));
    await client.wait(await client.setAliases("n", []));
    expect(client.aliases("n")).toEqual(two.slice(0, 1));
  });

  it("are done, although the answer is an error", async () => {
    const client = await withAliases();
    client.simulator.injectFault({ kind: "late-5xx" });
    expect(await client.setAliases("n", two)).toMatchObject({ status: 503, body: reason("backendError") });
    await expect.poll(() => client.aliases("n"), patience).toEqual(two);
    client.simulator.injectFault({ kind: "refuse", code: "quotaExceeded" });
    expect(await client.setAliases("n", [])).toMatchObject({ status: 403, body: reason("quotaExceeded") });
    expect(() => client.simulator.injectFault({ kind: "refuse", code: "nope" })).toThrow(/"nope"/);
    expect(client.simulator.callResults["instances.updateNetworkInterface"]).toEqual({
      backendError: 1,
      quotaExceeded: 1,
    });
  });

  it("show a list as it was", async () => {
    const client = await withAliases();
    client.simulator.injectFault({ kind: "stale-list", action: "instances.list", times: 1 });
    client.simulator.addInstance({ name: "m" });
    const list = () => client.call("GET", "demo-project/zones/us-central1-a/instances");
    expect((await list()).body).toMatchObject({ items: [{ name: "n" }] });
    expect((await list()).body).toMatchObject({ items: [{ name: "n" }, { name: "m" }] });
  });
});
