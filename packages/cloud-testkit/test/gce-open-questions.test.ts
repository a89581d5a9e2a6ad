import { describe, expect, it } from "vitest";
import { GceClient, patience, reason } from "./gce-client.ts";

const read = (client: GceClient) => client.call("GET", "demo-project/zones/us-central1-a/instances/n");
const pods = "pods:10.4.1.0/24";

async function open(options: Parameters<typeof GceClient.open>[0] = {}): Promise<GceClient> {
  const client = await GceClient.open(options);
  client.simulator.addInstance({ name: "n" });
  return client;
}

describe("what the vendor leaves open is played both ways:", () => {
  it.each([
    [{ throttleStatus: 403 }, 403, true, null],
    [{ throttleStatus: 429, errorInfo: false }, 429, false, null],
    [{ retryAfter: true }, 403, true, expect.stringMatching(/^\d+$/)],
  ] as const)("a refusal for the rate: %j", async (options, status, detailed, retryAfter) => {
    // No minute ends meanwhile.
    const clock = { now: () => 90_000, after: () => () => {} };
    const client = await open({ ...options, clock, limits: { readsPerMinute: 1 } });
    await read(client);
    const answer = await read(client);
    expect(answer).toMatchObject({ status, body: reason("rateLimitExceeded") });
    expect(JSON.stringify(answer.body).includes("RATE_LIMIT_EXCEEDED")).toBe(detailed);
    expect(answer.headers.get("retry-after")).toEqual(retryAfter);
  });

  it.each([
    ["absent", false],
    ["shown", true],
  ] as const)("an interface without aliases: the list is %s", async (emptyAliases, shown) => {
    const { body } = await read(await open({ emptyAliases }));
    expect(JSON.stringify(body).includes('"aliasIpRanges":[]')).toBe(shown);
  });

  it("too many aliases fail the operation, not the request", async () => {
    const client = await open({ aliasLimit: "operation", limits: { aliasRangesPerNic: 1 } });
    const started = await client.setAliases("n", [pods, "pods:10.4.2.0/24"]);
    expect(started.status).toBe(200);
    expect((await client.wait(started)).body).toMatchObject({
      error: { errors: [{ code: "LIMIT_EXCEEDED" }] },
    });
    expect(client.aliases("n")).toEqual([]);
  });

  it("a second writer gets 412", async () => {
    const client = await open({ busyStatus: 412, delays: { operationMs: 60_000 } });
    await client.setAliases("n", [pods]);
    expect(await client.setAliases("n", [])).toMatchObject({ status: 412, body: reason("conditionNotMet") });
  });

  it.each([
    [true, [pods]],
    [false, []],
  ] as const)("a stopped instance keeps its aliases: %s", async (stoppedKeepsAliases, aliases) => {
    const client = await open({ stoppedKeepsAliases });
    client.simulator.addAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });
    client.simulator.stopInstance("n");
    const status = () => client.simulator.describeState().instances[0]?.status;
    await expect.poll(status, patience).toBe("TERMINATED");
    expect(client.aliases("n")).toEqual(aliases);
  });
});

describe("rates", () => {
  const clock = { now: () => 90_000, after: () => () => {} };
  const list = (client: GceClient) => client.call("GET", "demo-project/zones/us-central1-a/instances");

  it("of lists, and of operations, may be counted apart", async () => {
    const limits = { readsPerMinute: 1, listsPerMinute: 1, operationReadsPerMinute: 1 };
    const client = await open({ clock, limits });
    const operation = () => client.call("GET", "demo-project/zones/us-central1-a/operations/x");
    const statuses = [];
    for (const call of [read, list, operation, read, list, operation]) {
      statuses.push((await call(client)).status);
    }
    expect(statuses).toEqual([200, 200, 404, 403, 403, 403]);
  });

  it("of all requests together", async () => {
    const client = await open({ clock, limits: { requestsPerMinute: 2 } });
    expect([await read(client), await list(client), await read(client)]).toMatchObject([
      { status: 200 },
      { status: 200 },
      { status: 403 },
    ]);
  });

  it("of changes of one instance", async () => {
    const client = await open({ limits: { changesPerResourcePerMinute: 1, minuteMs: 1e12 } });
    client.simulator.addInstance({ name: "m" });
    await client.wait(await client.setAliases("n", [pods]));
    const again = await client.setAliases("n", []);
    expect(again).toMatchObject({ status: 403, body: reason("rateLimitExceeded") });
    expect(JSON.stringify(again.body)).toContain("RESOURCE_OPERATION_RATE_EXCEEDED");
    expect((await client.setAliases("m", ["pods:10.4.2.0/24"])).status).toBe(200);
  });
});

it("a subnetwork tells how much of it is in use", async () => {
  const client = await open();
  client.simulator.addAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });
  const path = "demo-project/regions/us-central1/subnetworks/nodes?views=WITH_UTILIZATION";
  expect((await client.call("GET", path)).body).toMatchObject({
    utilizationDetails: {
      ipv4Utilizations: [
        { totalAllocatedIp: "1", totalFreeIp: String(4096 - 4 - 1) },
        { rangeName: "pods", totalAllocatedIp: "256", totalFreeIp: String(65_536 - 256) },
      ],
    },
  });
});

it("a preemption is an operation of the platform's", async () => {
  const client = await open({ delays: { preemptionNoticeMs: 1 } });
  const { id } = client.simulator.addInstance({ name: "spot" });
  client.simulator.preemptInstance("spot");
  const { body } = await client.call("GET", "demo-project/zones/us-central1-a/operations");
  expect(body).toMatchObject({
    items: [{ operationType: "compute.instances.preempted", targetId: id, status: "DONE" }],
  });
  const spot = () => client.simulator.describeState().instances.find(({ name }) => name === "spot");
  await expect.poll(() => spot()?.status, patience).toBe("TERMINATED");
});

it("lists may lag behind all the time", async () => {
  let now = 0;
  const clock = { now: () => now, after: () => () => {} };
  const client = await GceClient.open({ clock, delays: { listLagMs: 1000 } });
  client.simulator.addInstance({ name: "n" });
  const list = async () => (await client.call("GET", "demo-project/aggregated/instances")).body;
  expect(JSON.stringify(await list())).not.toContain('"name":"n"');
  expect((await read(client)).status).toBe(200);
  now += 1001;
  expect(JSON.stringify(await list())).toContain('"name":"n"');
});
