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
    await using session = await store.session(9_000);
    await store.txn({ then: [{ put: "k/alive", value: "", session }] });
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 5_000, ({ snapshots }) => snapshots === 1);
    let longest = 0;
    const serves = async (what: string) => {
      const start = performance.now();
      await until(`reads and writes with ${what}`, 10_000, async () => {
        await store.txn({ then: [{ put: "k/n", value: what }] });
        return (await store.get("k/n")).entry?.value === what;
      });
      longest = Math.max(longest, performance.now() - start);
      await watch.until(`the change with ${what}`, 15_000, ({ changes }) => changes.at(-1) === `k/n=${what}`);
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
  }, 90_000);

  // Catalogue 5. Guard: packages/core/src/kept-session.ts, KeptSession.#provenAt: a session ends by its holder's own
  // clock.
  it("sessions live on over changes of the leader, and who is cut off is still found out", async () => {
    await using store = await openEtcdStore(`${url}/leaders`);
    const sessions = await Promise.all([0, 1, 2].map(() => store.session(3_000)));
    for (const [at, session] of sessions.entries()) {
      await store.txn({ then: [{ put: `held/${at}`, value: "", session }] });
    }
    await using proxy = await startFaultProxy({ target: members[0] ?? expect.fail("three members") });
    await using cutOff = await openEtcdStore(`etcd://127.0.0.1:${proxy.port}/leaders`);
    const session = await cutOff.session(3_000);
    await cutOff.txn({ then: [{ put: "cut-off", value: "", session }] });
    await proxy.blackhole();
    const end = performance.now() + 2.2 * 3_000;
    let changes = 0;
    while (performance.now() < end) {
      const { leader } = await statusOf(members[0]);
      const statuses = await Promise.all(members.map(statusOf));
      const at = statuses.findIndex(({ member }) => member === leader);
      const next = statuses.find(({ member }) => member !== leader);
      await etcdctl(members[at] ?? expect.fail("no leader"), "move-leader", next?.member ?? "");
      await until("the new leader", 5_000, async () => (await statusOf(members[0])).leader === next?.member);
      changes += 1;
      expect((await store.list("held/")).entries).toHaveLength(3);
    }
    expect(changes).toBeGreaterThan(1);
    expect(sessions.map(({ signal }) => signal.aborted)).toEqual([false, false, false]);
    expect(session.signal.aborted).toBe(true);
    // Each leader starts a lease's time anew: its key outlives that, but not for ever.
    await until("the key of who is cut off to vanish", 20_000, async () => {
      return (await store.get("cut-off")).entry === undefined;
    });
    expect(sessions.map(({ signal }) => signal.aborted)).toEqual([false, false, false]);
  }, 60_000);
});

/** Ids of a member and of its leader, as etcdctl takes them. */
async function statusOf(server: TestServer | undefined): Promise<{ member: string; leader: string }> {
  const status = server && (await etcdctl(server, "endpoint", "status", "--write-out=json"));
  const id = (name: string) =>
    BigInt(new RegExp(`"${name}":(\\d+)`).exec(status ?? "")?.[1] ?? 0).toString(16);
  return { member: id("member_id"), leader: id("leader") };
}
