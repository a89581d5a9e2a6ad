import type { GceChange } from "@cocoon-net/cloud-testkit";
import { describe, expect, it } from "vitest";
import { type GceAnswer, GceClient, patience, reason } from "./gce-client.ts";

const requestId = "11111111-2222-4333-8444-555555555555";

describe("access", () => {
  it("needs a known token", async () => {
    const client = await GceClient.open();
    for (const token of [undefined, "wrong"]) {
      client.token = token;
      const answer = await client.call("GET", "demo-project/zones/us-central1-a/instances");
      expect(answer).toMatchObject({ status: 401, body: reason("authError") });
    }
  });

  it("names the permission that is denied", async () => {
    const client = await GceClient.open({ denied: ["compute.instances.list"] });
    const answer = await client.call("GET", "demo-project/aggregated/instances");
    expect(answer).toMatchObject({ status: 403, body: reason("forbidden") });
    expect(JSON.stringify(answer.body)).toContain("Required 'compute.instances.list' permission");
  });

  it.each([
    ["other/zones/us-central1-a/instances/vm-1", 404, "'projects/other' was not found"],
    ["demo-project/zones/mars-a/instances/vm-1", 400, "Unknown zone"],
    [
      "demo-project/zones/us-central1-a/instances/vm-9",
      404,
      "'projects/demo-project/zones/us-central1-a/instances/vm-9' was not found",
    ],
    ["demo-project/zones/us-central1-a/instances/VM!", 400, "Must be a match of regex"],
    ["demo-project/zones/us-central1-a/disks", 404, "no method of the API"],
  ])("of %s is refused with what is wrong", async (path, status, message) => {
    const client = await GceClient.open();
    const answer = await client.call("GET", path);
    expect(answer.status).toBe(status);
    expect(JSON.stringify(answer.body)).toContain(message);
  });
});

describe("instances", () => {
  it("are found by name and by number, with a trailing question mark too", async () => {
    const client = await GceClient.open();
    const { id } = client.simulator.addInstance({ name: "n" });
    for (const key of ["n", id, "n?"]) {
      const answer = await client.call("GET", `demo-project/zones/us-central1-a/instances/${key}`);
      expect(answer).toMatchObject({ status: 200, body: { id, name: "n", status: "RUNNING" } });
    }
  });

  it("are listed by page, per zone and in all", async () => {
    const client = await GceClient.open({ limits: { pageSize: 2 } });
    for (const zone of ["us-central1-a", "us-central1-a", "us-central1-b"])
      client.simulator.addInstance({ zone });
    const first = await client.call("GET", "demo-project/aggregated/instances?maxResults=500");
    expect(first.body).toMatchObject({
      items: {
        "zones/us-central1-a": { instances: [{ name: "vm-1" }, { name: "vm-2" }] },
        "zones/us-central1-b": { warning: { code: "NO_RESULTS_ON_PAGE" } },
      },
      nextPageToken: "page-2",
    });
    const second = await client.call("GET", "demo-project/aggregated/instances?pageToken=page-2");
    expect(second.body).toMatchObject({
      items: { "zones/us-central1-b": { instances: [{ name: "vm-3" }] } },
    });
    expect(second.body).not.toHaveProperty("nextPageToken");
    const zone = await client.call("GET", "demo-project/zones/us-central1-b/instances");
    expect(zone.body).toMatchObject({ items: [{ name: "vm-3" }] });
  });

  it("stop with their aliases, start again, and lose them when they are deleted", async () => {
    const client = await GceClient.open();
    const { simulator } = client;
    simulator.addInstance({ name: "n" });
    simulator.addAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });
    const changes: string[] = [];
    simulator.onChange((change: GceChange) => {
      if (change.kind === "instance") changes.push(change.after?.status ?? "gone");
      if (change.kind === "alias")
        changes.push(`${change.what} ${change.alias.cidr} ${change.instance.name}`);
    });
    simulator.stopInstance("n");
    await expect.poll(() => changes.at(-1), patience).toBe("TERMINATED");
    simulator.startInstance("n");
    await expect.poll(() => changes.at(-1), patience).toBe("RUNNING");
    simulator.deleteInstance("n");
    await expect.poll(() => changes.at(-1), patience).toBe("removed 10.4.1.0/24 n");
    expect(changes).toEqual([
      ...["STOPPING", "TERMINATED", "STAGING", "RUNNING", "STOPPING", "gone"],
      "removed 10.4.1.0/24 n",
    ]);
    expect(simulator.addInstance({ name: "n" }).id).not.toBe("");
  });
});

describe("updateNetworkInterface", () => {
  async function withInstance(options: Parameters<typeof GceClient.open>[0] = {}): Promise<GceClient> {
    const client = await GceClient.open(options);
    client.simulator.addInstance({ name: "n" });
    return client;
  }

  it("sets the whole list once its operation is done, and changes the fingerprint", async () => {
    const client = await withInstance();
    const before = await client.fingerprint("n");
    const started = await client.setAliases("n", ["pods:10.4.1.0/24", "10.128.0.9"]);
    expect(started).toMatchObject({ status: 200, body: { status: "PENDING" } });
    expect(client.aliases("n")).toEqual([]);
    expect(await client.wait(started)).toMatchObject({ status: 200, body: { status: "DONE" } });
    expect(client.aliases("n")).toEqual(["pods:10.4.1.0/24", "primary:10.128.0.9/32"]);
    expect(await client.fingerprint("n")).not.toBe(before);
  });

  it("takes an absent list for no change, and an empty one for none", async () => {
    const client = await withInstance();
    await client.wait(await client.setAliases("n", ["pods:10.4.1.0/24"]));
    await client.wait(await client.setAliases("n", undefined));
    expect(client.aliases("n")).toEqual(["pods:10.4.1.0/24"]);
    await client.wait(await client.setAliases("n", []));
    expect(client.aliases("n")).toEqual([]);
  });

  it("chooses a block for a netmask", async () => {
    const client = await withInstance();
    await client.wait(await client.setAliases("n", ["pods:10.4.0.0/28"]));
    await client.wait(await client.setAliases("n", ["pods:10.4.0.0/28", "pods:/28"]));
    expect(client.aliases("n")).toEqual(["pods:10.4.0.0/28", "pods:10.4.0.16/28"]);
  });

  it.each<[string, (client: GceClient) => Promise<GceAnswer>, number, string]>([
    ["a stale fingerprint", (c) => c.setAliases("n", [], { fingerprint: "AAAA" }), 412, "conditionNotMet"],
    ["no fingerprint", (c) => c.setAliases("n", [], { fingerprint: "" }), 400, "required"],
    ["an unknown range", (c) => c.setAliases("n", ["nope:10.4.0.0/24"]), 400, "invalid"],
    ["a block outside the range", (c) => c.setAliases("n", ["pods:10.5.0.0/24"]), 400, "invalid"],
    ["host bits", (c) => c.setAliases("n", ["pods:10.4.0.1/24"]), 400, "invalid"],
    ["a requestId that is no UUID", (c) => c.setAliases("n", [], { requestId: "x" }), 400, "invalid"],
    [
      "the nil UUID",
      (c) => c.setAliases("n", [], { requestId: "00000000-0000-0000-0000-000000000000" }),
      400,
      "invalid",
    ],
  ])("refuses %s", async (_, send, status, why) => {
    expect(await send(await withInstance())).toMatchObject({ status, body: reason(why) });
  });

  it("refuses to add and remove at once", async () => {
    const client = await withInstance();
    await client.wait(await client.setAliases("n", ["pods:10.4.1.0/24"]));
    const answer = await client.setAliases("n", ["pods:10.4.2.0/24"]);
    expect(JSON.stringify(answer.body)).toContain("Cannot simultaneously add and remove alias IP ranges.");
  });

  it("refuses an interface that is echoed back", async () => {
    const client = await withInstance();
    const path = "demo-project/zones/us-central1-a/instances/n/updateNetworkInterface?networkInterface=nic0";
    const body = { fingerprint: await client.fingerprint("n"), accessConfigs: [] };
    const answer = await client.call("PATCH", path, body);
    expect(JSON.stringify(answer.body)).toContain("Updating this field is not supported.");
  });

  it("finds an address in use when the operation runs: DONE is not success", async () => {
    const client = await withInstance();
    client.simulator.addInstance({ name: "m" });
    client.simulator.addAlias("m", { cidr: "10.4.1.7/32", rangeName: "pods" });
    const done = await client.wait(await client.setAliases("n", ["pods:10.4.1.0/24"]));
    expect(done).toMatchObject({
      status: 200,
      body: { status: "DONE", error: { errors: [{ code: "IP_IN_USE_BY_ANOTHER_RESOURCE" }] } },
    });
    expect(client.aliases("n")).toEqual([]);
  });

  it("keeps to the limit of the interface, and of the network", async () => {
    const client = await withInstance({ limits: { aliasRangesPerNic: 1, aliasRangesPerNetwork: 1 } });
    const two = await client.setAliases("n", ["pods:10.4.1.0/24", "pods:10.4.2.0/24"]);
    expect(two).toMatchObject({ status: 400, body: reason("limitExceeded") });
    client.simulator.addInstance({ name: "m" });
    client.simulator.addAlias("m", { cidr: "10.4.9.0/24", rangeName: "pods" });
    const done = await client.wait(await client.setAliases("n", ["pods:10.4.1.0/24"]));
    expect(done.body).toMatchObject({ error: { errors: [{ code: "QUOTA_EXCEEDED" }] } });
  });

  it("does one thing at a time", async () => {
    const client = await withInstance({ delays: { operationMs: 5000 } });
    await client.setAliases("n", ["pods:10.4.1.0/24"]);
    const answer = await client.setAliases("n", ["pods:10.4.2.0/24"]);
    expect(answer).toMatchObject({ status: 400, body: reason("resourceNotReady") });
  });

  it("answers a repeated requestId with the same operation", async () => {
    const client = await withInstance();
    const fingerprint = await client.fingerprint("n");
    const send = () => client.setAliases("n", ["pods:10.4.1.0/24"], { fingerprint, requestId });
    const first = await client.wait(await send());
    client.simulator.removeAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });
    // The old answer, whatever has become of the interface.
    expect((await send()).body).toEqual(first.body);
    expect(client.aliases("n")).toEqual([]);
    const other = await client.setAliases("n", [], { requestId });
    expect(other).toMatchObject({ status: 400, body: reason("invalid") });
  });
});

describe("subnetworks", () => {
  const path = "demo-project/regions/us-central1/subnetworks/nodes";

  async function patch(client: GceClient, ranges: Record<string, string>): Promise<GceAnswer> {
    const { body } = await client.call("GET", path);
    const fingerprint = /"fingerprint":"([^"]+)"/.exec(JSON.stringify(body))?.[1];
    const secondaryIpRanges = Object.entries(ranges).map(([rangeName, ipCidrRange]) => ({
      rangeName,
      ipCidrRange,
    }));
    return await client.call("PATCH", path, { fingerprint, secondaryIpRanges });
  }

  it("get another secondary range", async () => {
    const client = await GceClient.open();
    const done = await client.wait(await patch(client, { pods: "10.4.0.0/16", more: "10.5.0.0/16" }));
    expect(done.body).toMatchObject({ status: "DONE" });
    expect((await client.call("GET", path)).body).toMatchObject({
      secondaryIpRanges: [{ rangeName: "pods" }, { rangeName: "more", ipCidrRange: "10.5.0.0/16" }],
    });
  });

  it.each([
    ["changes a range", { pods: "10.4.0.0/15" }, "cannot be changed"],
    ["adds and removes", { more: "10.5.0.0/16" }, "Cannot add and remove"],
    ["overlaps", { pods: "10.4.0.0/16", more: "10.4.3.0/24" }, "overlaps with the range 10.4.0.0/16"],
    ["removes one in use", {}, "in use by n"],
  ])("refuse a patch that %s", async (_, ranges, message) => {
    const client = await GceClient.open();
    client.simulator.addInstance({ name: "n" });
    client.simulator.addAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });
    const answer = await patch(client, ranges);
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toContain(message);
  });

  it("refuse a stale fingerprint", async () => {
    const client = await GceClient.open();
    const answer = await client.call("PATCH", path, { fingerprint: "AAAA", secondaryIpRanges: [] });
    expect(answer).toMatchObject({ status: 412, body: reason("conditionNotMet") });
  });
});

describe("operations", () => {
  it("are found by name and number, listed by status, and forgotten in time", async () => {
    const due: (() => void)[] = [];
    const after = (_: number, run: () => void) => {
      due.push(run);
      return () => {};
    };
    const client = await GceClient.open({ clock: { now: () => Date.now(), after } });
    client.simulator.addInstance({ name: "n" });
    const started = await client.setAliases("n", ["pods:10.4.1.0/24"]);
    const operations = "demo-project/zones/us-central1-a/operations";
    const notDone = `${operations}?filter=${encodeURIComponent('status != "DONE"')}`;
    expect((await client.call("GET", notDone)).body).toMatchObject({
      items: [{ operationType: "updateNetworkInterface", status: "PENDING" }],
    });
    due.shift()?.();
    expect((await client.call("GET", notDone)).body).toMatchObject({ items: [{ status: "RUNNING" }] });
    due.shift()?.();
    expect((await client.call("GET", notDone)).body).toMatchObject({ items: [] });
    const [operation] = client.simulator.describeState().operations;
    const byNumber = await client.call("GET", `${operations}/${operation?.id}`);
    expect(byNumber.body).toMatchObject({ name: operation?.name, status: "DONE" });
    due.shift()?.();
    expect((await client.wait(started)).status).toBe(404);
  });

  it("may still run when wait comes back", async () => {
    const client = await GceClient.open({ delays: { waitMs: 5, operationMs: 5000 } });
    client.simulator.addInstance({ name: "n" });
    const answer = await client.wait(await client.setAliases("n", ["pods:10.4.1.0/24"]));
    expect(answer.body).toMatchObject({ status: "RUNNING" });
  });
});

describe("trouble", () => {
  it("per-minute buckets refill at the minute", async () => {
    let now = 60_000 * 1000 + 59_000;
    const clock = { now: () => now, after: () => () => {} };
    const client = await GceClient.open({ clock, limits: { readsPerMinute: 2 } });
    const read = () => client.call("GET", "demo-project/aggregated/instances");
    expect([(await read()).status, (await read()).status]).toEqual([200, 200]);
    expect(await read()).toMatchObject({
      status: 403,
      body: {
        error: { errors: [{ reason: "rateLimitExceeded" }], details: [{ reason: "RATE_LIMIT_EXCEEDED" }] },
      },
    });
    now += 1000;
    expect((await read()).status).toBe(200);
  });

  it("a lost answer is done, a throttled request is not", async () => {
    const client = await GceClient.open();
    client.simulator.addInstance({ name: "n" });
    const fingerprint = await client.fingerprint("n");
    client.simulator.injectFault({ kind: "throttle" });
    const throttled = await client.setAliases("n", ["pods:10.4.1.0/24"], { fingerprint });
    expect(throttled.status).toBe(403);
    expect(client.simulator.describeState().operations).toEqual([]);
    client.simulator.injectFault({ kind: "lost-answer" });
    await expect(client.setAliases("n", ["pods:10.4.1.0/24"], { fingerprint })).rejects.toThrow(
      "fetch failed",
    );
    await expect.poll(() => client.aliases("n"), patience).toEqual(["pods:10.4.1.0/24"]);
    expect(client.simulator.calls["instances.updateNetworkInterface"]).toBe(2);
  });

  it("is looked into on paths of the simulator's own", async () => {
    const client = await GceClient.open();
    const made = await fetch(`${client.api}/sim/instances`, { method: "POST", body: '{"name": "n"}' });
    expect(await made.json()).toMatchObject({ name: "n", status: "RUNNING" });
    const stopped = await fetch(`${client.api}/sim/instances/n/preempt`, { method: "POST" });
    expect(await stopped.json()).toMatchObject({ status: "STOPPING", preempted: true });
    const state = await fetch(`${client.api}/sim/state`);
    expect(await state.json()).toMatchObject({ instances: [{ name: "n" }] });
    expect((await fetch(`${client.api}/sim/instances/x/stop`, { method: "POST" })).status).toBe(404);
    const bad = await fetch(`${client.api}/sim/instances`, { method: "POST", body: '{"nam": "n"}' });
    expect(bad.status).toBe(400);
  });
});
