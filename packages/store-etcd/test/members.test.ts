import { openEtcdStore } from "@cocoon-net/store-etcd";
import { freePort, startEtcd, startFaultProxy, type TestServer, until } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { etcdctl } from "./etcdctl.ts";
import { WatchRecord } from "./watch-record.ts";

describe("three members", () => {
  const names = ["a", "b", "c"];
  let members: readonly TestServer[] = [];
  let url = "";

  beforeAll(async () => {
    const ports = await Promise.all(
      names.map(async () => ({ port: await freePort(), peerPort: await freePort() })),
    );
    const cluster = ports.map(({ peerPort }, at) => `${names[at]}=http://127.0.0.1:${peerPort}`).join(",");
    members = await Promise.all(
      ports.map((port, at) =>
        startEtcd({ ...port, extraArgs: ["--name", `${names[at]}`, "--initial-cluster", cluster] }),
      ),
    );
    url = `etcd://${ports.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  });
  afterAll(async () => {
    await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
  });

  it("any one can be killed or stopped, for reads, writes, watches and sessions", async () => {
    await using store = await openEtcdStore(`${url}/any`);
    expect(store.capabilities.durability).toContain("the loss of any 1");
    await using session = await store.session(15_000);
    await store.txn({ then: [{ put: "k/alive", value: "", session }] });
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    let longest = 0;
    const serves = async (what: string) => {
      const start = performance.now();
      await until(`reads and writes with ${what}`, 20_000, async () => {
        await store.txn({ then: [{ put: "k/n", value: what }] });
        return (await store.get("k/n")).entry?.value === what;
      });
      longest = Math.max(longest, performance.now() - start);
      // A write in doubt from before may come after it.
      await watch.until(`the change with ${what}`, 20_000, ({ changes }) => changes.includes(`k/n=${what}`));
    };
    for (const [at, member] of members.entries()) {
      await member.stop("SIGKILL");
      await serves(`${names[at]} killed`);
      await member.start();
      member.pause();
      await serves(`${names[at]} stopped`);
      member.resume();
      await serves(`${names[at]} back`);
    }
    console.log(`three members, one killed or stopped: writes after ${Math.round(longest)} ms at most`);
    expect(watch.snapshots).toBe(1);
    expect(watch.changes.filter((change) => change.startsWith("-"))).toEqual([]);
    expect(session.signal.aborted).toBe(false);
    expect((await store.get("k/alive")).entry).toBeDefined();
  }, 180_000);

  // Catalogue 5. Guard: packages/core/src/kept-session.ts, KeptSession.#provenAt: a session ends by its holder's own
  // clock.
  it("sessions live on over changes of the leader, and who is cut off is still found out", async () => {
    await using store = await openEtcdStore(`${url}/leaders`);
    // Each is renewed once or twice before the end.
    const sessions = await Promise.all([0, 1, 2].map(() => store.session(10_000)));
    for (const [at, session] of sessions.entries()) {
      await store.txn({ then: [{ put: `held/${at}`, value: "", session }] });
    }
    await using proxy = await startFaultProxy({ target: members[0] ?? expect.fail("three members") });
    await using cutOff = await openEtcdStore(`etcd://127.0.0.1:${proxy.port}/leaders`);
    const session = await cutOff.session(3_000);
    await cutOff.txn({ then: [{ put: "cut-off", value: "", session }] });
    await proxy.blackhole();
    const end = performance.now() + 2.2 * 3_000;
    for (let changes = 0; changes < 2 || performance.now() < end; changes += 1) {
      await until("another leader", 20_000, () => moveLeader(members));
      expect((await store.list("held/", { timeoutMs: 10_000 })).entries).toHaveLength(3);
    }
    expect(sessions.map(({ signal }) => signal.aborted)).toEqual([false, false, false]);
    expect(session.signal.aborted).toBe(true);
    // Each leader starts a lease's time anew: its key outlives that, but not for ever.
    await until("the key of who is cut off to vanish", 30_000, async () => {
      return (await store.get("cut-off")).entry === undefined;
    });
    expect(sessions.map(({ signal }) => signal.aborted)).toEqual([false, false, false]);
  }, 120_000);
});

/** Rejects where there is no leader, or it has changed meanwhile, as on a busy machine it may by itself. */
async function moveLeader(members: readonly TestServer[]): Promise<boolean> {
  const statuses = await Promise.all(members.map(statusOf));
  const leader = members[statuses.findIndex(({ member, leader }) => member === leader)];
  const next = statuses.find(({ member, leader }) => member !== leader);
  if (leader === undefined || next === undefined) return false;
  await etcdctl(leader, "move-leader", next.member);
  return true;
}

/** Ids of a member and of its leader, as etcdctl takes them. */
async function statusOf(server: TestServer | undefined): Promise<{ member: string; leader: string }> {
  const status = server && (await etcdctl(server, "endpoint", "status", "--write-out=json"));
  const id = (name: string) =>
    BigInt(new RegExp(`"${name}":(\\d+)`).exec(status ?? "")?.[1] ?? 0).toString(16);
  return { member: id("member_id"), leader: id("leader") };
}
