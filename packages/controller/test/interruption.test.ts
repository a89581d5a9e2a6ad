import { type Registration, type TxnRequest, UnavailableError } from "@cocoon-net/core";
import { describe, expect, test } from "vitest";
import { changesCluster } from "./interposed-store.ts";
import { leftRecord, TestCluster, type TestController, type TestNode } from "./test-cluster.ts";

/** Counts a controller's changing writes from the suspicion on, and calls `at` instead of sending the n-th. */
function atWrite(
  controller: Pick<TestController, "store">,
  n: number,
  at: (request: TxnRequest, forward: () => Promise<unknown>) => Promise<void>,
): { readonly writes: number } {
  const counter = { writes: 0 };
  controller.store.intercept = async (request, forward) => {
    if (!changesCluster(request) || ++counter.writes !== n) return forward();
    await at(request, forward);
    throw new UnavailableError("the answer was lost", { outcome: "unknown" });
  };
  return counter;
}

async function reclaimIsComplete(cluster: TestCluster): Promise<boolean> {
  return (await cluster.history("n1")).includes("subnet-freed");
}

async function expectReclaimed(cluster: TestCluster): Promise<void> {
  await cluster.pass(30_000);
  const left = leftRecord("n1", "10.0.0.0/24", expect.any(Number));
  expect(await cluster.records()).toMatchObject({ "nodes/n1": left });
  expect(Object.keys(await cluster.records())).toEqual([
    "alive/n2",
    "config",
    "nodes/n1",
    "nodes/n2",
    "pool/10.0.1.2",
    "pool/10.0.1.3",
    "slots/10.0.1.0/24",
    "subnets/n2",
  ]);
  const history = (await cluster.history("n1")).filter((type) => type !== "reclaim-retry");
  expect(history).toEqual([
    "node-registered",
    "node-suspect",
    "reclaim-started",
    "subnet-quarantined",
    "subnet-freed",
  ]);
  expect([...cluster.vpc.nics.keys()]).toEqual(["eni-i-n2-0", "eni-i-n2-1"]);
  const changes = cluster.vpc.mutations.map((line) => line.slice(line.indexOf(" ") + 1));
  expect(changes.sort()).toEqual([
    "delete eni-i-n1-0",
    "delete eni-i-n1-1",
    "detach eni-i-n1-0",
    "detach eni-i-n1-1",
  ]);
}

async function twoNodes(): Promise<{ cluster: TestCluster; dead: TestNode }> {
  const cluster = await TestCluster.open();
  const dead = await cluster.join("n1");
  await cluster.join("n2");
  return { cluster, dead };
}

/** suspect, start, 2 × (intent, done) of the fence, quarantine, leases, 2 × (intent, done) of the release, wait, free */
const writesOfAReclaim = 14;
const everyWrite = Array.from({ length: writesOfAReclaim }, (_, index) => index + 1);

test("a reclaim takes the writes that the tests below interrupt", async () => {
  const { cluster, dead } = await twoNodes();
  await using _ = cluster;
  const counter = atWrite(cluster.start("a"), 0, async () => {});
  await cluster.die(dead);
  await cluster.until("the block is free", () => reclaimIsComplete(cluster));
  await expectReclaimed(cluster);
  expect(counter.writes).toBe(writesOfAReclaim);
});

// Guards: FencedWriter's witness, and the resumption from the intent's step in Term.
describe.each([
  { fault: "before it is sent", applied: false },
  { fault: "when it has been applied", applied: true },
])("the leader is killed at a write, $fault", ({ applied }) => {
  test.each(everyWrite)("write %i: the next leader finishes, with the same outcome", async (n) => {
    const { cluster, dead } = await twoNodes();
    await using _ = cluster;
    const a = cluster.start("a");
    await cluster.pass(1_000);
    cluster.start("b");
    atWrite(a, n, async (_request, forward) => {
      if (applied) await forward();
      a.kill();
    });
    await cluster.die(dead);
    await cluster.until("the block is free", () => reclaimIsComplete(cluster));
    await expectReclaimed(cluster);
    expect(cluster.controllers[1]?.controller.leading).toBe(true);
  });
});

// Guard: the witness in FencedWriter; without it a write that happened is taken for a conflict.
test.each(everyWrite)("the answer to write %i is lost: one leader finishes all the same", async (n) => {
  const { cluster, dead } = await twoNodes();
  await using _ = cluster;
  const a = cluster.start("a");
  atWrite(a, n, async (_request, forward) => {
    await forward();
  });
  await cluster.die(dead);
  await cluster.until("the block is free", () => reclaimIsComplete(cluster));
  await expectReclaimed(cluster);
  // As if nothing had happened: no failure noted, every event told once.
  expect(a.events.map(({ type }) => type)).toEqual([
    "leader-elected",
    "node-suspect",
    "reclaim-started",
    "subnet-quarantined",
    "subnet-freed",
  ]);
});

// Guard: every write compares what it was decided upon, so that a second coming of it fails.
test.each(everyWrite)("write %i arrives late, after it was sent again: it changes nothing", async (n) => {
  const { cluster, dead } = await twoNodes();
  await using _ = cluster;
  const a = cluster.start("a");
  let late: Promise<unknown> | undefined;
  atWrite(a, n, async (_request, forward) => {
    cluster.clock.after(3_000, () => {
      late = forward();
    });
  });
  await cluster.die(dead);
  await cluster.until("the block is free", () => reclaimIsComplete(cluster));
  await expectReclaimed(cluster);
  expect(await late).toMatchObject({ succeeded: false });
});

// Guard: the leadership compare in FencedWriter. The former leader's cloud still works: only the store stops it.
describe.each(["as soon as the next one leads", "when all is done"] as const)(
  "what a hanging leader has written arrives %s",
  (when) => {
    test.each(everyWrite)("write %i changes nothing", async (n) => {
      const { cluster, dead } = await twoNodes();
      await using _ = cluster;
      const a = cluster.start("a");
      await cluster.pass(1_000);
      cluster.start("b");
      atWrite(a, n, async (_request, forward) => {
        a.link.blackhole();
        await forward();
      });
      const applied: string[] = [];
      const arrive = () => {
        const revision = cluster.database.revision;
        a.link.pass();
        const transactions = cluster.database.transactionsAfter(revision) ?? [];
        applied.push(...transactions.flatMap(({ changes }) => changes.map(({ key }) => key)));
      };
      const isOver = cluster.database.onCommit(() => {
        if (when === "when all is done") return;
        if (!cluster.database.get("leader")?.value.includes('"id":"b"')) return;
        isOver();
        queueMicrotask(arrive);
      });
      await cluster.die(dead);
      await cluster.until("the block is free", () => reclaimIsComplete(cluster));
      if (when === "when all is done") arrive();
      expect(a.link.passing).toBe(true);
      expect(applied).toEqual([]);
      await expectReclaimed(cluster);
    });
  },
);

describe("the dead node comes back", () => {
  /** What an agent does: it claims what it believes to own, and when that is refused it registers anew. */
  async function comeBack(cluster: TestCluster, node: TestNode): Promise<Registration> {
    cluster.vpc.instances.set("i-n1", "running");
    try {
      await cluster.speak(node);
      return node.registration;
    } catch {
      // Fenced: below.
    }
    let registration: Registration | undefined;
    await cluster.until("n1 is registered anew", async () => {
      registration = await cluster.registry
        .register({
          node: "n1",
          uid: "i-n1",
          instanceID: "i-n1",
          platform: "scripted",
          eniIDs: ["eni-i-n1-0", "eni-i-n1-1"],
          agentVersion: "1.0.0",
        })
        .catch(() => undefined);
      return registration !== undefined;
    });
    if (!registration) throw new Error("n1 is not registered");
    const session = await cluster.store.session(10_000);
    await registration.announce(session);
    return registration;
  }

  // Guards: `alive/{node}` in the first record of the fence, `subnets/{node}` at its epoch, `quarantine/{cidr}`.
  test.each(everyWrite)(
    "after write %i: it keeps its block, or loses it and gets it or another",
    async (n) => {
      const { cluster, dead } = await twoNodes();
      await using _ = cluster;
      const a = cluster.start("a");
      let writes = 0;
      let back: Promise<Registration> | undefined;
      a.store.intercept = async (request, forward) => {
        const result = await forward();
        if (changesCluster(request) && ++writes === n) back = comeBack(cluster, dead);
        return result;
      };
      await cluster.die(dead);
      await cluster.until("n1 has come back", () => back !== undefined);
      const registration = await back;
      if (!registration) throw new Error("n1 has not come back");

      if (registration === dead.registration) {
        await cluster.pass(120_000);
        const kept = cluster.database.get("subnets/n1")?.modRevision === registration.epoch;
        const touched = cluster.vpc.mutations.length > 0;
        // Back to ready at no cost, or, once the fence had begun, taken although it speaks.
        expect(kept).toBe(!touched);
        if (kept) expect(await cluster.records()).toMatchObject({ "nodes/n1": { status: "ready" } });
        else await expect(registration.verify()).rejects.toMatchObject({ code: "fenced" });
      } else {
        const deletes = cluster.vpc.mutations.length;
        await cluster.lease(registration, [7]);
        await cluster.pass(120_000);
        await registration.verify();
        // What was under way when it came back ended there.
        expect(cluster.vpc.mutations.length).toBe(deletes);
        const records = await cluster.records();
        const slot = records[`slots/${registration.subnet}`];
        expect(slot).toEqual({ node: "n1", uid: "i-n1" });
        expect(records).toMatchObject({ "nodes/n1": { status: "ready" } });
        expect(records[`pool/${registration.subnet.replace("0/24", "7")}`]).toMatchObject({ node: "n1" });
      }
      expect(Object.keys(await cluster.records()).filter((key) => key.startsWith("intents/"))).toEqual([]);
      expect(Object.keys(await cluster.records()).filter((key) => key.startsWith("quarantine/"))).toEqual([]);
    },
  );
});
