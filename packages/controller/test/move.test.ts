import { cancelMigration, pauseReclaim, requestDrain, requestMigration } from "@cocoon-net/controller";
import { decode, leaseSchema, movedSchema, UnavailableError, writeMovedLease } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { changesCluster } from "./interposed-store.ts";
import { at, eventsOf, ip, isOver, move, now, threeNodes, vm } from "./moved-fleet.ts";

// Catalogue 20. Guard: packages/controller/src/move.ts, Move.#settle: at home again there is no record.
test("a guest keeps its address over three moves in a row, and back home", async () => {
  await using fleet = await threeNodes();
  const { cluster, agents } = fleet;
  cluster.start("a");
  const before = await cluster.records();
  await move(cluster, "n2");
  const first = await cluster.records();
  expect(first[`moved/${ip}`]).toEqual({
    home: "n1",
    subnet: "10.0.0.0/24",
    node: "n2",
    uid: "i-n2",
    mac: "02:00:00:00:00:02",
    vmID: vm,
    seq: 1,
  });
  expect(at(first, `pool/${ip}`)).toMatchObject({ node: "n2", seq: 2, vmID: vm });
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
  await cluster.pass(1_000);
  expect(agents.map(({ served, frozen }) => [served.has(ip), frozen.has(ip)])).toEqual([
    [false, true],
    [true, false],
    [false, false],
  ]);
  await requestMigration(cluster.store, { vm, to: "n3" }, now(cluster));
  await cluster.until("it is moved on", () => isOver(cluster));
  expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ home: "n1", node: "n3", seq: 2 });
  await move(cluster, "n1");
  await cluster.pass(1_000);
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.holders.size).toBe(0);
  expect(agents[0].frozen.has(ip)).toBe(false);
  expect(cluster.vpc.mutations.map((line) => line.slice(2))).toEqual(
    Array.from({ length: 3 }, () => [`unassign ${ip}`, `assign ${ip}`]).flat(),
  );
});

test("what cannot be moved is refused before anything is written", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  const before = await cluster.records();
  const ask = (request: Parameters<typeof requestMigration>[1]) => requestMigration(cluster.store, request);
  await expect(ask({ ip: "10.0.0.99", to: "n2" })).rejects.toThrow("no guest has 10.0.0.99");
  await expect(ask({ vm: "vm-9", to: "n2" })).rejects.toThrow("no guest on record is VM vm-9");
  await expect(ask({ ip, to: "n1" })).rejects.toThrow("10.0.0.2 is at n1 already");
  await expect(ask({ ip, to: "n9" })).rejects.toThrow("node n9 owns no subnet");
  expect(await cluster.records()).toEqual(before);
  await cluster.silence(nodes[1]);
  await expect(ask({ ip, to: "n2" })).rejects.toThrow("node n2 is silent");
  await requestDrain(cluster.store, "n3");
  await expect(ask({ ip, to: "n3" })).rejects.toThrow("node n3 is draining");
});

// Catalogue 20. Guard: packages/controller/src/move.ts, Move.#prepare: both agents have answered before the cloud is
// told, but not for ever.
test.each([0, 1] as const)(
  "an agent that does not answer (node %i) leaves everything as it was",
  async (deaf) => {
    await using fleet = await threeNodes();
    const { cluster, agents } = fleet;
    cluster.start("a");
    const before = await cluster.records();
    const agent = agents[deaf];
    agent.deaf = true;
    await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
    await cluster.pass(25_000);
    expect(await isOver(cluster)).toBe(false);
    await cluster.until("it is given up", () => isOver(cluster), 10_000);
    expect(await cluster.records()).toEqual(before);
    expect(cluster.vpc.mutations).toEqual([]);
    expect(await eventsOf(cluster)).toEqual(["move-requested", "move-aborted"]);
  },
);

// Guard: isFinal in Move.#move. The NIC of the target is full: GCE's limit of alias ranges, say.
test("a target without room is a clear refusal, and leaves everything as it was", async () => {
  await using fleet = await threeNodes();
  const { cluster } = fleet;
  const a = cluster.start("a");
  const before = await cluster.records();
  cluster.vpc.full.add("n2");
  await move(cluster, "n2");
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.mutations).toEqual([]);
  expect(a.events.at(-1)).toMatchObject({
    type: "move-aborted",
    reason: "cloud-refused",
    ip,
    message: `${ip} was not moved to n2: n2 has no room for ${ip}`,
  });
});

// Catalogue 20. Guard: packages/controller/src/move.ts, Move.#move: what the cloud was told is undone first.
test("a cloud that fails half-way is asked again, and in the end the address goes back", async () => {
  await using fleet = await threeNodes();
  const { cluster } = fleet;
  cluster.start("a");
  const before = await cluster.records();
  let failing = true;
  cluster.vpc.before = (call) => {
    if (failing && call === `a assign ${ip}`) throw new UnavailableError("no answer", { outcome: "unknown" });
    // The way back works.
    if (call === `a move ${ip} n2 n1`) failing = false;
  };
  await move(cluster, "n2");
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.holders.size).toBe(0);
  expect(await eventsOf(cluster)).toEqual(["move-requested", "move-undoing", "move-aborted"]);
});

// Guard: Returns looks twice, a pause apart (G8), and startReturn compares the lease.
test("an address whose guest is gone goes home, not when the guest comes back", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes, agents } = fleet;
  const a = cluster.start("a");
  await move(cluster, "n2");
  const { entry } = await cluster.store.get(`moved/${ip}`);
  const { entry: lease } = await cluster.store.get(`pool/${ip}`);
  if (!entry || !lease) throw new Error("there is no record");
  const part = nodes[1].registration;
  let back = false;
  // It has a guest again, so it does not say that it has none.
  agents[1].deaf = true;
  a.store.intercept = async (request, forward) => {
    const result = await forward();
    const starts = (request.then ?? []).some(
      (operation) => "put" in operation && /^intents.return/.test(operation.put),
    );
    if (!starts || back) return result;
    back = true;
    const { entry: now } = await cluster.store.get(`moved/${ip}`);
    if (now) await writeMovedLease(cluster.store, part, now, decode(leaseSchema, lease));
    return result;
  };
  await writeMovedLease(cluster.store, part, entry, undefined);
  await cluster.pass(9_000);
  expect(back).toBe(false);
  await cluster.until("its return is given up", async () => back && (await isOver(cluster)));
  const after = await cluster.store.get(`moved/${ip}`);
  expect(JSON.parse(after.entry?.value ?? "")).toEqual(JSON.parse(entry.value));
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
  if (!after.entry) throw new Error("there is no record");
  agents[1].deaf = false;
  await writeMovedLease(cluster.store, part, after.entry, undefined);
  await cluster.until("it is home", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect(cluster.vpc.holders.size).toBe(0);
});

// Catalogue 17. Guard: packages/controller/src/returns.ts, startReturn: that there is no lease is compared.
test("an address whose guest comes back between the second look and the return does not set out", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  const a = cluster.start("a");
  await move(cluster, "n2");
  const { entry } = await cluster.store.get(`moved/${ip}`);
  const { entry: lease } = await cluster.store.get(`pool/${ip}`);
  if (!entry || !lease) throw new Error("there is no record");
  const part = nodes[1].registration;
  const before = await eventsOf(cluster);
  let refused = 0;
  a.store.intercept = async (request, forward) => {
    const starts = (request.then ?? []).some(
      (operation) => "put" in operation && /^intents.return/.test(operation.put),
    );
    if (starts) await writeMovedLease(cluster.store, part, entry, decode(leaseSchema, lease));
    const result = await forward();
    if (starts && !result.succeeded) refused++;
    return result;
  };
  await writeMovedLease(cluster.store, part, entry, undefined);
  await cluster.until("the return is refused", async () => refused > 0);
  await cluster.pass(60_000);
  expect(refused).toBe(1);
  expect(await isOver(cluster)).toBe(true);
  expect(await eventsOf(cluster)).toEqual(before);
  expect((await cluster.store.get(`moved/${ip}`)).entry).toEqual(entry);
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
});

// Guard: packages/controller/src/intent-run.ts, runJob: pauses begin anew after a look that went well.
test("a move that has met many outages of the store still goes on soon after the last", async () => {
  await using fleet = await threeNodes();
  const { cluster, agents } = fleet;
  const a = cluster.start("a", { retryMaxMs: 60_000 });
  let failing = false;
  a.store.intercept = async (request, forward) => {
    const has = (what: "get" | "put", key: string) =>
      request.then?.some((operation) => what in operation && Object(operation)[what] === key);
    // The swap: what the target is to say then, it says later.
    if (has("put", `pool/${ip}`)) agents[1].deaf = true;
    if (!failing || !has("get", `moved/${ip}`)) return forward();
    failing = false;
    throw new UnavailableError("the store is away", { outcome: "none" });
  };
  await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
  await cluster.until("the owner is swapped", () => agents[1].deaf);
  for (let outage = 1; outage <= 8; outage++) {
    failing = true;
    await cluster.until("the move has met an outage", () => !failing);
    if (outage < 8) await cluster.pass(120_000);
  }
  agents[1].deaf = false;
  await agents[1].look();
  await cluster.until("it is moved", () => isOver(cluster), 5_000);
});

// Catalogue 8. Guard: packages/core/src/moved-address.ts, writeMovedLease: the record is compared.
test("once it has moved, the former node can write nothing about it", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  const { entry: early } = await cluster.store.get(`moved/${ip}`);
  await move(cluster, "n3");
  if (!early) throw new Error("there is no record");
  expect(decode(movedSchema, early).node).toBe("n2");
  expect(await writeMovedLease(cluster.store, nodes[1].registration, early, undefined)).toBe(false);
  await expect(writeMovedLease(cluster.store, nodes[0].registration, early, undefined)).rejects.toMatchObject(
    { code: "conflict" },
  );
  expect(at(await cluster.records(), `pool/${ip}`)).toMatchObject({ node: "n3" });
});

// Guard: the lease is compared in the swap (G4).
test("a lease that ends while the cloud moves the address is not moved", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  cluster.vpc.before = async (call) => {
    if (call !== `a assign ${ip}`) return;
    const { entry } = await cluster.store.get(`moved/${ip}`);
    if (entry) await writeMovedLease(cluster.store, nodes[0].registration, entry, undefined);
  };
  await move(cluster, "n2");
  const records = await cluster.records();
  expect(records[`moved/${ip}`]).toBeUndefined();
  expect(records[`pool/${ip}`]).toBeUndefined();
  expect(cluster.vpc.holders.size).toBe(0);
});

test("an operator can stop a move before the swap, and not after it", async () => {
  await using fleet = await threeNodes();
  const { cluster } = fleet;
  cluster.start("a");
  const before = await cluster.records();
  expect(await cancelMigration(cluster.store, ip)).toBe(false);
  cluster.vpc.before = async (call) => {
    if (call === `a assign ${ip}`) await cancelMigration(cluster.store, ip, now(cluster));
  };
  await move(cluster, "n2");
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.holders.size).toBe(0);
});

test("a pause does not stop a move: between two nodes an address is delivered to nobody", async () => {
  await using fleet = await threeNodes();
  const { cluster } = fleet;
  cluster.start("a");
  await pauseReclaim(cluster.store, "maintenance");
  await move(cluster, "n2");
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
});

/** prepared → moving, 2 × (intent, done) of the cloud, swap, end */
const writesOfAMove = 7;
const everyWrite = Array.from({ length: writesOfAMove }, (_, index) => index + 1);

// Guards: the intent's revision and `moved/{ip}` in every write, the steps of the cloud job.
test.each([...everyWrite.map((n) => [n, false] as const), ...everyWrite.map((n) => [n, true] as const)])(
  "the leader is killed at write %i (applied: %s): the next one finishes the move",
  async (n, applied) => {
    await using fleet = await threeNodes();
    const { cluster } = fleet;
    const a = cluster.start("a");
    await cluster.pass(1_000);
    cluster.start("b");
    let writes = 0;
    a.store.intercept = async (request, forward) => {
      if (!changesCluster(request) || ++writes !== n) return forward();
      if (applied) await forward();
      a.kill();
      throw new UnavailableError("killed", { outcome: "unknown" });
    };
    await move(cluster, "n2");
    expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ node: "n2", seq: 1 });
    expect(at(await cluster.records(), `moved/${ip}`).move).toBeUndefined();
    expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
    expect(writes).toBeGreaterThanOrEqual(n);
    expect(await eventsOf(cluster)).toEqual(["move-requested", "address-moved", "move-finished"]);
  },
);
