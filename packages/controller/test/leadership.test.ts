import { createController, requestDrain } from "@cocoon-net/controller";
import { AuthError, ExhaustedError } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { startOfTime, TestCluster, type TestNode } from "./test-cluster.ts";

/** Why the leader takes nothing from silent nodes, as it says itself. */
async function heldBy(cluster: TestCluster): Promise<unknown> {
  const { entry } = await cluster.store.get("controller");
  return entry && (JSON.parse(entry.value) as { readonly held?: unknown }).held;
}

test("one of two leads, and the other takes over when it stops", async () => {
  await using cluster = await TestCluster.open();
  const a = cluster.start("a");
  await cluster.pass(1_000);
  const b = cluster.start("b");
  await cluster.pass(60_000);
  expect([a.controller.leading, b.controller.leading]).toEqual([true, false]);
  a.stop.abort();
  await a.done;
  await cluster.pass(1_000);
  expect([a.controller.leading, b.controller.leading]).toEqual([false, true]);
});

test("disposing ends a run, twice is harmless, and a second run beside it is refused", async () => {
  await using cluster = await TestCluster.open();
  const { controller, done } = cluster.start("a");
  await cluster.pass(1_000);
  await expect(controller.run()).rejects.toMatchObject({ code: "conflict" });
  await controller[Symbol.asyncDispose]();
  await controller[Symbol.asyncDispose]();
  await done;
  expect(controller.leading).toBe(false);
});

test("settings that cannot work are refused", async () => {
  await using cluster = await TestCluster.open();
  const options = { store: cluster.store, id: "a", cloudFor: () => Promise.reject(new Error("none")) };
  expect(() => createController({ ...options, tickMs: 0 })).toThrow("controller: tickMs cannot be 0");
  expect(() => createController({ ...options, reclaimAfterMs: -1 })).toThrow("reclaimAfterMs cannot be -1");
});

test("refused credentials end the run with the error", async () => {
  await using cluster = await TestCluster.open();
  const stop = new AbortController();
  const { done } = cluster.start("a", {
    prepare: ({ store }) => {
      store.intercept = () => Promise.reject(new AuthError("the store refused the user"));
    },
  });
  await expect(done).rejects.toMatchObject({ code: "auth" });
  stop.abort();
  cluster.controllers.length = 0;
});

// Catalogue 19. Guard: packages/controller/src/leader-proof.ts, proveLeadership: without a proof for resignAfterMs the
// lead is given up.
test("a leader that can no longer write gives the lead up to one that can", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.pass(1_000);
  const b = cluster.start("b");
  a.store.intercept = (request, forward) =>
    (request.then ?? []).some((operation) => "put" in operation)
      ? Promise.reject(new ExhaustedError("the store is full"))
      : forward();
  await cluster.until("b leads", () => b.controller.leading, 40_000);
  expect(a.controller.leading).toBe(false);
  expect(a.events.at(-1)).toMatchObject({
    type: "leader-lost",
    message: expect.stringContaining("the store is full"),
  });
  await cluster.die(node);
  await cluster.until("b reclaims", () => b.events.some(({ type }) => type === "subnet-freed"));
});

test("a store that has lost everything ends the term", async () => {
  await using cluster = await TestCluster.open();
  const a = cluster.start("a");
  await cluster.pass(1_000);
  cluster.database.wipe();
  await cluster.until("a no longer leads", () => a.events.some(({ type }) => type === "leader-lost"), 40_000);
});

// Catalogue 6. Guard: packages/controller/src/cluster-state.ts, ClusterState.follow: nothing begins before every table
// has been read.
test("a leader does nothing before all that it decides upon has been read", async () => {
  await using cluster = await TestCluster.open();
  await cluster.join("n1");
  const before = await cluster.records();
  const goOn = Promise.withResolvers<void>();
  const a = cluster.start("a", {
    prepare: ({ store }) => {
      // Without it every node looks silent.
      store.interceptWatch = async function* (prefix, forward) {
        if (prefix === "alive/") await goOn.promise;
        yield* forward();
      };
    },
  });
  await cluster.pass(600_000);
  expect(a.events.map(({ type }) => type)).toEqual(["leader-elected"]);
  expect(await heldBy(cluster)).toBe("not all of the cluster has been read yet");
  goOn.resolve();
  await cluster.pass(600_000);
  expect(await cluster.records()).toEqual(before);
  expect(cluster.vpc.calls).toEqual([]);
});

// Guard: Detection counts from its own first look; a new leader has seen no silence yet.
test("a new leader counts a node's silence anew", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  const a = cluster.start("a");
  await cluster.pass(1_000);
  await cluster.die(node);
  await cluster.pass(19_000);
  a.kill();
  const b = cluster.start("b");
  await cluster.until("b leads", () => b.controller.leading);
  await cluster.pass(19_000);
  expect(b.events.map(({ type }) => type)).toEqual(["leader-elected"]);
  await cluster.until("b reclaims", () => b.events.some(({ type }) => type === "subnet-freed"));
});

// Catalogue 26. Guard: packages/controller/src/reclaim-release.ts, awaitEnd: the difference of the quarantine's times
// is waited for.
test.each([3_600_000, -3_600_000])(
  "a next leader whose clock is %i ms off waits for the whole quarantine",
  async (skewMs) => {
    await using cluster = await TestCluster.open();
    const node = await cluster.join("n1");
    const a = cluster.start("a");
    await cluster.pass(1_000);
    await cluster.die(node);
    await cluster.until("quarantine", () => a.events.some(({ type }) => type === "subnet-quarantined"));
    const from = cluster.clock.now();
    a.kill();
    const b = cluster.start("b", { skewMs });
    await cluster.until("it is free", () => b.events.some(({ type }) => type === "subnet-freed"));
    expect(cluster.clock.now() - from).toBeGreaterThanOrEqual(30_000);
    expect(cluster.clock.now() - from).toBeLessThan(90_000);
  },
);

test("a store that may lose what it acknowledged gets no automatic reclaim", async () => {
  await using cluster = await TestCluster.open();
  const node = await cluster.join("n1");
  cluster.start("a", {
    prepare: ({ store }) => {
      store.capabilities = { ...store.capabilities, trustworthy: false };
    },
  });
  await cluster.die(node);
  await cluster.pass(600_000);
  expect(await cluster.history("n1")).toEqual(["node-registered", "node-suspect", "reclaim-manual"]);
});

test("a record that cannot be read is told, and nothing is done to its node", async () => {
  await using cluster = await TestCluster.open();
  const broken = await cluster.join("n1");
  const dead = await cluster.join("n2");
  await cluster.store.txn({ then: [{ put: "nodes/n1", value: "{" }] });
  const a = cluster.start("a");
  await cluster.die(broken);
  await cluster.die(dead);
  await cluster.until("n2 is reclaimed", async () => (await cluster.history("n2")).includes("subnet-freed"));
  expect(a.events.filter(({ type }) => type === "problem").map(({ message }) => message)).toEqual([
    "the value of nodes/n1 is not JSON",
  ]);
  expect(await cluster.history("n1")).toEqual(["node-registered"]);
});

test("a quarantine without an intent is told once and left alone", async () => {
  await using cluster = await TestCluster.open();
  const time = new Date(startOfTime).toISOString();
  const record = { node: "n1", uid: "i-n1", from: time, until: time, reason: "by hand", fenced: true };
  await cluster.store.txn({ then: [{ put: "quarantine/10.0.9.0/24", value: JSON.stringify(record) }] });
  const a = cluster.start("a");
  await cluster.pass(600_000);
  expect(a.events.map(({ type }) => type)).toEqual(["leader-elected", "problem"]);
  expect(await cluster.records()).toHaveProperty(["quarantine/10.0.9.0/24"]);
});

// Catalogue 4. Guard: packages/controller/src/breaker.ts, Breaker.update: too many in the window open it.
test("when many nodes fall silent at once nothing is reclaimed until most are back", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 10; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a");
  await cluster.pass(1_000);
  for (const node of nodes.slice(0, 4)) await cluster.die(node);
  await cluster.pass(3_600_000);
  expect(a.events.filter(({ type }) => /reclaim/.test(type)).map(({ type }) => type)).toEqual([
    "reclaim-paused",
  ]);
  expect(await heldBy(cluster)).toBe("4 of 10 nodes are silent");
  expect(cluster.vpc.calls).toEqual([]);
  for (const node of nodes.slice(1, 4)) await cluster.speak(node);
  await cluster.until("n1 is reclaimed", async () => (await cluster.history("n1")).includes("subnet-freed"));
  expect(a.events.map(({ type }) => type)).toContain("reclaim-resumed");
  expect(await heldBy(cluster)).toBeUndefined();
  expect(await cluster.history("n2")).toEqual(["node-registered", "node-suspect", "node-returned"]);
});

// Guard: `paused` in Reclaim, before the fence and before each further change of it.
test("mass silence stops a reclaim that has not passed the fence", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 10; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a", { retryMaxMs: 2_000 });
  cluster.vpc.before = (call) => {
    // The second NIC cannot be detached for now: the fence stays half done.
    if (call === "a detach eni-i-n1-1") throw new ExhaustedError("the cloud is busy");
  };
  const [first, ...others] = nodes;
  if (first) await cluster.die(first);
  await cluster.until("the fence is stuck", () => a.events.some(({ type }) => type === "reclaim-retry"));
  for (const node of others.slice(0, 3)) await cluster.silence(node);
  await cluster.until("it pauses", () => a.events.some(({ type }) => type === "reclaim-paused"));
  cluster.vpc.before = () => {};
  await cluster.pass(10_000);
  const calls = cluster.vpc.calls.length;
  await cluster.pass(600_000);
  expect(cluster.vpc.calls.length).toBe(calls);
  expect(cluster.vpc.mutations).toEqual(["a detach eni-i-n1-0"]);
  for (const node of others.slice(0, 3)) await cluster.speak(node);
  await cluster.until("n1 is reclaimed", async () => (await cluster.history("n1")).includes("subnet-freed"));
});

// Guard: `troubled` in Term.#updateBreaker: who speaks is not silent. Else the half-done fences would wait for each other.
test("nodes that come back although their fences have begun end the mass silence that stopped those", async () => {
  await using cluster = await TestCluster.open();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= 4; index++) nodes.push(await cluster.join(`n${index}`));
  const a = cluster.start("a", { retryMaxMs: 2_000 });
  cluster.vpc.before = (call) => {
    if (/ detach eni-i-n\d-1$/.test(call)) throw new ExhaustedError("the cloud is busy");
  };
  const isTold = (type: string, node?: string) =>
    a.events.some((event) => event.type === type && event.node === node);
  const three = nodes.slice(0, 3);
  // One that is to leave becomes no suspect before its fence begins, so the third is not stopped before that either.
  await requestDrain(cluster.store, "n3", { now: () => cluster.date() });
  for (const node of three) {
    await cluster.die(node);
    await cluster.until("its fence has begun", () =>
      cluster.vpc.mutations.includes(`a detach eni-i-${node.name}-0`),
    );
  }
  await cluster.until("it pauses", () => isTold("reclaim-paused"));
  cluster.vpc.before = () => {};
  await cluster.pass(600_000);
  expect(a.events.some(({ type }) => type === "subnet-freed")).toBe(false);
  for (const node of three) await cluster.speak(node);
  await cluster.until("all are free", () => three.every(({ name }) => isTold("subnet-freed", name)));
  expect(isTold("reclaim-resumed")).toBe(true);
});
