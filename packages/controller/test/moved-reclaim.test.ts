import { requestMigration, requestReclaim } from "@cocoon-net/controller";
import { type Registration, UnavailableError, writeMovedLease } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { at, type Fleet, ip, move, now, threeNodes } from "./moved-fleet.ts";
import { SimulatedAgent } from "./simulated-agent.ts";

// Guard: Move.#obstacle and #sidesHold; the way back is taken although the target is gone.
test.each(["unassign", "assign"])(
  "a target that dies at the %s loses the address to where it was",
  async (at) => {
    await using fleet = await threeNodes();
    const { cluster, nodes } = fleet;
    cluster.start("a");
    let done = false;
    cluster.vpc.before = async (call) => {
      if (done || call !== `a ${at} ${ip}`) return;
      done = true;
      await cluster.die(nodes[1]);
    };
    await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
    await cluster.until("n2 is reclaimed", async () =>
      (await cluster.history("n2")).includes("subnet-freed"),
    );
    const records = await cluster.records();
    expect(records[`moved/${ip}`]).toBeUndefined();
    expect(at ? records[`pool/${ip}`] : undefined).toMatchObject({ node: "n1" });
    expect(cluster.vpc.holders.size).toBe(0);
    expect(Object.keys(records).filter((key) => /intents|quarantine/.test(key))).toEqual([]);
  },
);

test("a source that dies half-way is reclaimed, and the address is nobody's any more", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  cluster.vpc.before = async (call) => {
    if (call !== `a unassign ${ip}` || !nodes[0].session) return;
    await cluster.die(nodes[0]);
  };
  await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
  await cluster.until("n1 is reclaimed", async () => (await cluster.history("n1")).includes("subnet-freed"));
  const records = await cluster.records();
  expect(Object.keys(records).filter((key) => /intents|quarantine|moved|10\.0\.0\./.test(key))).toEqual([]);
  expect(cluster.vpc.holders.get(ip) ?? undefined).toBeUndefined();
});

// Guards: Move.#undo does not go back to a node that is being fenced, whose fence waits for it (G5).
test("an address does not go back to a source that is being fenced", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  cluster.vpc.stale = true;
  await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
  await cluster.pass(3_000);
  await cluster.die(nodes[0]);
  cluster.vpc.before = (call) => {
    // The way back fails until the reclaim of n1 has begun.
    if (call === `a move ${ip} n2 n1`) throw new UnavailableError("no answer", { outcome: "none" });
  };
  await cluster.until("n1's reclaim begins", async () =>
    (await cluster.history("n1")).includes("reclaim-started"),
  );
  cluster.vpc.before = () => {};
  cluster.vpc.stale = false;
  await cluster.until("n1 is reclaimed", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect([...cluster.vpc.holders.values()].filter((holder) => holder !== undefined)).toEqual([]);
  expect(cluster.vpc.mutations.filter((line) => line === `a assign ${ip}`)).toHaveLength(1);
  expect((await cluster.records())[`moved/${ip}`]).toBeUndefined();
});

// Guard: Reclaim.#fence waits for open moves of the node.
test("a node whose move hangs at the cloud is not fenced before that has ended", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  const answer = Promise.withResolvers<void>();
  cluster.vpc.before = async (call) => {
    if (call === `a assign ${ip}` && cluster.vpc.holders.has(ip)) await answer.promise;
  };
  await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
  await cluster.pass(5_000);
  await cluster.die(nodes[1]);
  await cluster.pass(300_000);
  expect(await cluster.history("n2")).toContain("reclaim-started");
  expect(cluster.vpc.mutations.filter((line) => line.includes("detach"))).toEqual([]);
  answer.resolve();
  await cluster.until("n2 is reclaimed", async () => (await cluster.history("n2")).includes("subnet-freed"));
  await cluster.until("it is settled", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect(cluster.vpc.holders.get(ip)).toBeUndefined();
});

// Guard: movedIn in Reclaim's fence; leasesOf; Returns.
test("the reclaim of a node takes the address that was moved to it, and it goes home", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await cluster.die(nodes[1]);
  let seen: unknown = "nothing";
  await cluster.until("n2 is reclaimed", async () => {
    if ((await cluster.records())["quarantine/10.0.1.0/24"] && seen === "nothing")
      seen = cluster.vpc.holders.get(ip);
    return (await cluster.history("n2")).includes("subnet-freed");
  });
  // The fence took it from n2 before the block was taken.
  expect(seen).toBeUndefined();
  expect((await cluster.store.get("acted/n2")).entry).toBeUndefined();
  // Should the same instance join again as n2, it does not serve what was fenced.
  expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ node: "n2", uid: "" });
  await cluster.until("it is home", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect((await cluster.records())[`pool/${ip}`]).toBeUndefined();
  expect(cluster.vpc.holders.size).toBe(0);
});

// Guard: packages/controller/src/reclaim-fence.ts, fence: what was moved to the node is disowned before its block is taken.
test("an instance that takes its block back at once does not serve what its fence has taken", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  const a = cluster.start("a");
  await move(cluster, "n2");
  let back: Registration | undefined;
  a.store.intercept = async (request, forward) => {
    const result = await forward();
    if (back || !request.then?.some((step) => "put" in step && step.put === "quarantine/10.0.1.0/24"))
      return result;
    cluster.vpc.instances.set("i-n2", "running");
    back = await cluster.registry.register({
      node: "n2",
      uid: "i-n2",
      instanceID: "i-n2",
      agentVersion: "1.0.0",
    });
    await cluster.speak({ ...nodes[1], registration: back });
    return result;
  };
  await cluster.die(nodes[1]);
  await cluster.until("n2 is back", () => back !== undefined);
  const { entry } = await cluster.store.get(`moved/${ip}`);
  if (!entry || !back) throw new Error("there is no record");
  expect(JSON.parse(entry.value)).toMatchObject({ node: "n2", uid: "" });
  expect((await cluster.records())[`pool/${ip}`]).toBeUndefined();
  await expect(writeMovedLease(cluster.store, back, entry, undefined)).rejects.toThrow(
    "10.0.0.2 is served by nobody, not by n2 (i-n2)",
  );
  await cluster.until("it is home", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect(cluster.vpc.holders.size).toBe(0);
});

// Guard: packages/controller/src/lease-deletion.ts, deleteLeases: in the block only, and disown before that (G12).
test("a reclaim that waits for the cloud leaves alone what is moved to an heir of the node's name", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  cluster.vpc.stuck.add("eni-i-n2-0");
  await cluster.die(nodes[1]);
  await cluster.until("quarantine", async () => (await cluster.history("n2")).includes("subnet-quarantined"));
  const heir = new SimulatedAgent(cluster.store, await cluster.join("n2", "i-heir"));
  await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
  await cluster.until("it is moved to the heir", () => heir.served.has(ip));
  // The reclaim tries again and again.
  await cluster.pass(60_000);
  await heir.stop();
  expect((await cluster.records())[`pool/${ip}`]).toMatchObject({ node: "n2" });
  expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ node: "n2", uid: "i-heir" });
  expect(cluster.vpc.holders.get(ip)).toBe("i-heir");
});

/** What a forced reclaim has left to its instance, nobody can say: the rest of the cluster is held to all rules. */
const unfenced = { damaged: true, leaseMs: 60_000 };

/** Forces the reclaim of a node whose fence the cloud does not do, and waits until its block is taken. */
async function forceUnfenced({ cluster, nodes }: Fleet): Promise<void> {
  cluster.vpc.before = (call) => {
    if (call === "a fence n2") throw new UnavailableError("no answer", { outcome: "none" });
  };
  await cluster.silence(nodes[1]);
  await requestReclaim(cluster.store, "n2", { force: true }, now(cluster));
  await cluster.until("quarantine", async () => (await cluster.history("n2")).includes("subnet-quarantined"));
  expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ node: "n2", uid: "", unfenced: "i-n2" });
  expect((await cluster.records())[`pool/${ip}`]).toBeUndefined();
}

// Guard: packages/controller/src/move-facts.ts, sideOf: `unfenced` is the instance that the cloud is asked about.
test("what a forced reclaim could not fence is taken from its instance before it is at home again", async () => {
  await using fleet = await threeNodes(unfenced);
  const { cluster } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await forceUnfenced(fleet);
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
  await cluster.until(
    "it is home",
    async () => (await cluster.records())[`moved/${ip}`] === undefined,
    600_000,
  );
  expect(cluster.vpc.holders.size).toBe(0);
  expect((await cluster.history("n1")).filter((type) => type === "move-aborted")).toEqual([]);
});

// Guard: packages/controller/src/moved-addresses.ts, holders: by the instance, not the name (G12).
test("an heir of the name is reclaimed although the instance before it has an address still", async () => {
  await using fleet = await threeNodes(unfenced);
  const { cluster } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await forceUnfenced(fleet);
  const heir = await cluster.join("n2", "i-heir");
  await cluster.die(heir);
  await cluster.pass(60_000);
  cluster.vpc.before = () => {};
  await cluster.until("both are free", async () => {
    return (await cluster.history("n2")).filter((type) => type === "subnet-freed").length === 2;
  });
  await cluster.until("it is home", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect(cluster.vpc.holders.size).toBe(0);
});

// Guard: packages/controller/src/reclaim-work.ts, untouched: what is taken on record counts like what is at the cloud.
test("a node that speaks once its moved addresses are taken is reclaimed all the same", async () => {
  await using fleet = await threeNodes(unfenced);
  const { cluster, nodes } = fleet;
  const a = cluster.start("a");
  await move(cluster, "n2");
  a.store.intercept = async (request, forward) => {
    const takes = request.then?.some((step) => "put" in step && step.put === "quarantine/10.0.1.0/24");
    if (takes && !nodes[1].session) await cluster.speak(nodes[1]);
    return forward();
  };
  await forceUnfenced(fleet);
  expect(nodes[1].session).toBeDefined();
  expect(await cluster.history("n2")).not.toContain("node-returned");
});

// Guard: packages/controller/src/moved-addresses.ts, mayHaveStill: a fence takes in what a former one could not take (G5).
test("an instance that joins again and dies is fenced with what a forced reclaim had left to it", async () => {
  await using fleet = await threeNodes(unfenced);
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  // Nothing goes home to a silent node.
  await cluster.silence(nodes[0]);
  await forceUnfenced(fleet);
  const registration = await cluster.registry.register({
    ...{ node: "n2", uid: "i-n2", instanceID: "i-n2", agentVersion: "1.0.0" },
  });
  const back = { ...nodes[1], registration };
  await cluster.speak(back);
  await cluster.pass(1_000);
  cluster.vpc.before = () => {};
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
  await cluster.die(back);
  await cluster.until("it is fenced", async () => {
    return (await cluster.history("n2")).filter((type) => type === "subnet-quarantined").length === 2;
  });
  expect(cluster.vpc.holders.get(ip)).toBeUndefined();
  expect((await cluster.records())[`moved/${ip}`]).toMatchObject({ node: "n2", uid: "" });
  expect((await cluster.records())[`moved/${ip}`]).not.toHaveProperty("unfenced");
});

// Guard: packages/controller/src/move.ts, Move.#tellCloud: an address that goes to nobody is taken from whom it was not fenced.
test("the block that an unfenced instance has an address of is not free before the cloud has taken it", async () => {
  await using fleet = await threeNodes(unfenced);
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await forceUnfenced(fleet);
  await cluster.die(nodes[0]);
  cluster.vpc.before = (call) => {
    if (call === `a unassign ${ip}`) throw new UnavailableError("no answer", { outcome: "none" });
  };
  await cluster.pass(600_000);
  expect(await cluster.history("n2")).toContain("subnet-freed");
  expect(await cluster.history("n1")).not.toContain("subnet-freed");
  cluster.vpc.before = () => {};
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect(cluster.vpc.holders.get(ip)).toBeUndefined();
  expect((await cluster.records())[`moved/${ip}`]).toBeUndefined();
});

// Guard: packages/controller/src/reclaim-fence.ts, disown: what a move that is being undone is to take is noted as unfenced.
test.each(["n1", "n3"])(
  "an address on its way back to %s from an instance that is reclaimed unfenced is taken from it",
  async (from) => {
    await using fleet = await threeNodes(unfenced);
    const { cluster, nodes } = fleet;
    cluster.start("a");
    if (from !== "n1") await move(cluster, from);
    const before = await cluster.records();
    cluster.vpc.stale = true;
    await requestMigration(cluster.store, { ip, to: "n2" }, now(cluster));
    await cluster.until("n2 has it", () => cluster.vpc.holders.get(ip) === "i-n2");
    let failing = true;
    cluster.vpc.before = (call) => {
      const isBack = call === `a move ${ip} n2 ${from}` || call === "a fence n2";
      if (failing && isBack) throw new UnavailableError("no answer", { outcome: "none" });
    };
    await cluster.silence(nodes[1]);
    await requestReclaim(cluster.store, "n2", { force: true }, now(cluster));
    await cluster.until("quarantine", async () =>
      (await cluster.history("n2")).includes("subnet-quarantined"),
    );
    failing = false;
    cluster.vpc.stale = false;
    await cluster.until("it is back", async () =>
      (await cluster.history("n1")).concat(await cluster.history("n3")).includes("move-aborted"),
    );
    const after = await cluster.records();
    for (const key of [`moved/${ip}`, `pool/${ip}`]) expect(after[key]).toEqual(before[key]);
    expect(cluster.vpc.holders.get(ip)).toBe(from === "n1" ? undefined : "i-n3");
  },
);

// Guard: packages/controller/src/move-facts.ts, sideOf: whose claim has gone without a fence may have the address.
test("an address is taken from an instance whose claim the store has lost", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await cluster.silence(nodes[1]);
  const lost = ["subnets/n2", "slots/10.0.1.0/24", `pool/${ip}`];
  for (const id of ["eni-i-n2-0", "eni-i-n2-1"]) cluster.vpc.nics.delete(id);
  await cluster.store.txn({ then: lost.map((key) => ({ delete: key })) });
  await cluster.until("it is home", async () => (await cluster.records())[`moved/${ip}`] === undefined);
  expect(cluster.vpc.holders.size).toBe(0);
});

// Guards: the listing of moves in Reclaim.#await; movedAway in its fence (ScriptedCloud would refuse nothing, so the block).
test("a block is not free while one of its addresses is served elsewhere", async () => {
  await using fleet = await threeNodes();
  const { cluster, nodes } = fleet;
  cluster.start("a");
  await move(cluster, "n2");
  await cluster.die(nodes[0]);
  await cluster.until("quarantine", async () => (await cluster.history("n1")).includes("subnet-quarantined"));
  await cluster.pass(600_000);
  expect((await cluster.records())["slots/10.0.0.0/24"]).toBeDefined();
  expect(at(await cluster.records(), `pool/${ip}`)).toMatchObject({ node: "n2" });
  expect(cluster.vpc.holders.get(ip)).toBe("i-n2");
  // The guest goes.
  const { entry } = await cluster.store.get(`moved/${ip}`);
  if (!entry) throw new Error("there is no record");
  expect(await writeMovedLease(cluster.store, nodes[1].registration, entry, undefined)).toBe(true);
  await cluster.until("it is free", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect((await cluster.records())[`moved/${ip}`]).toBeUndefined();
  expect(cluster.vpc.holders.get(ip)).toBeUndefined();
});
