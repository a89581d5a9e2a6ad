import { ConflictError, FencedError, keys, type Registration } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { recordedRegistration } from "../src/cluster-membership.ts";
import { openStore } from "../src/drivers.ts";
import {
  contents,
  known,
  lease,
  onEtcd,
  onRecord,
  onRedis,
  populate,
  register,
  usesBothStores,
} from "./support/both-stores.ts";
import { runCommand } from "./support/run-command.ts";
import { Daemon } from "./support/store-daemon.ts";

usesBothStores();

describe("store copy", () => {
  it("moves a cluster etcd → Redis → etcd, and every node goes on under the epoch it has on record", async () => {
    const [first, second, third] = [onEtcd(), onRedis(), onEtcd("c")];
    await using a = await openStore(first);
    const files = await populate(a, "n1", "n2", "n3");
    await a.txn({ then: [{ put: "future/thing", value: "kept" }] });
    const before = await contents(first);

    const copied = await runCommand(["store", "copy", "--from", first, "--to", second, "--verify"]);
    expect(copied.failure).toBeUndefined();
    expect(copied.out[0]).toMatch(
      /^cluster [0-9a-f-]{36} is in redis:.* now: 17 records written, 0 removed, verified$/,
    );
    expect(copied.said).toContain("copying: 17 of 17 records");
    expect(await contents(second)).toEqual(before);

    await using b = await openStore(second);
    const n1 = await recordedRegistration(b, await known(files, "n1"));
    await n1.verify();
    await n1.mirror([["10.0.0.9", lease("n1", 2)]]);
    expect(n1.epoch).not.toBe((await known(files, "n1")).epoch);
    // Its next start finds the same, whether or not it has put the new epoch on record.
    expect((await recordedRegistration(b, onRecord(n1, b))).epoch).toBe(n1.epoch);

    const onward = await runCommand(["store", "copy", "--from", second, "--to", third, "--verify"]);
    expect(onward.failure).toBeUndefined();
    expect(await contents(third)).toEqual(await contents(second));
    await using c = await openStore(third);
    // n2 was down all the time that the cluster was in Redis; n1 has the epoch of Redis on record.
    for (const file of [await known(files, "n2"), onRecord(n1, b)]) {
      await (await recordedRegistration(c, file)).verify();
    }
    // And back to where it began, over what was left there.
    const home = await runCommand(["store", "copy", "--from", third, "--to", first, "--verify"]);
    expect(home.failure).toBeUndefined();
    expect(await contents(first)).toEqual(await contents(third));
    for (const node of ["n1", "n2", "n3"]) {
      await (await recordedRegistration(a, await known(files, node))).verify();
    }
    expect((await runCommand(["cluster", "nodes", "--store", first])).failure).toBeUndefined();
    expect((await runCommand(["store", "check", "--store", first])).failure).toBeUndefined();
  });

  it("keeps a node fenced that was fenced before, or whose subnet was taken and given anew since (G3)", async () => {
    await using a = await openStore(onEtcd());
    const files = await populate(a, "n1", "n2", "n3");
    // n1 lost its subnet and got the same one again, as another instance.
    await (await recordedRegistration(a, await known(files, "n1"))).leave();
    await register(a, "n1", "i-other");
    await using b = await openStore(onRedis());
    expect(
      (await runCommand(["store", "copy", "--from", onEtcd(), "--to", onRedis()])).failure,
    ).toBeUndefined();
    const stale = await recordedRegistration(b, await known(files, "n1"));
    await expect(stale.mirror([["10.0.0.9", lease("n1", 9)]])).rejects.toThrow(FencedError);

    // n2's is taken away after the copy; the same node comes back to the same subnet.
    const n2 = await recordedRegistration(b, await known(files, "n2"));
    await n2.leave();
    await expect((await recordedRegistration(b, await known(files, "n2"))).verify()).rejects.toThrow(
      FencedError,
    );
    const again = await register(b, "n2");
    expect([again.subnet, again.epoch > n2.epoch]).toEqual([n2.subnet, true]);
    await expect((await recordedRegistration(b, await known(files, "n2"))).verify()).rejects.toThrow(
      FencedError,
    );
    // The epoch alone is nobody's identity.
    const impostor = { ...(await known(files, "n3")), uid: "i-other" };
    await expect((await recordedRegistration(b, impostor)).verify()).rejects.toThrow(FencedError);
  });

  it("leaves the source closed: nothing is given out there, and it says where the cluster is", async () => {
    await using a = await openStore(onEtcd());
    await populate(a, "n1");
    await runCommand(["store", "copy", "--from", onEtcd(), "--to", onRedis()]);
    const moved = /^the cluster in etcd:.* has moved to redis:.* at .*; use that store/;
    await expect(register(a, "n9")).rejects.toThrow(ConflictError);
    expect((await runCommand(["cluster", "nodes", "--store", onEtcd()])).failure).toMatch(moved);
    const init = ["cluster", "init", "--store", onEtcd(), "--parent-cidr", "10.0.0.0/16"];
    expect((await runCommand(init)).failure).toMatch(moved);
    const again = await runCommand(["store", "copy", "--from", onEtcd(), "--to", onRedis()]);
    expect(again.failure).toMatch(/has been moved from etcd:.* to redis:.* already; nothing is left to do$/);
    const elsewhere = await runCommand(["store", "copy", "--from", onEtcd(), "--to", onEtcd("x")]);
    expect(elsewhere.failure).toMatch(/has moved to redis:.*; copy from there$/);
  });

  it("gives a controller's unfinished job the epoch that its ownership has there", async () => {
    await using a = await openStore(onEtcd());
    const files = await populate(a, "n1", "n2");
    const job = (node: string, epoch: number) => JSON.stringify({ kind: "reclaim", node, epoch, more: [1] });
    const { epoch } = await known(files, "n1");
    await a.txn({
      then: [
        { put: "intents/live", value: job("n1", epoch) },
        { put: "intents/stale", value: job("n2", epoch) },
      ],
    });
    await runCommand(["store", "copy", "--from", onEtcd(), "--to", onRedis(), "--verify"]);
    await using b = await openStore(onRedis());
    const owned = (await b.get(keys.subnet("n1"))).entry?.modRevision ?? 0;
    expect((await b.get("intents/live")).entry?.value).toBe(job("n1", owned));
    expect((await b.get("intents/stale")).entry?.value).toBe(job("n2", 0));
  });

  it("refuses, in one line, what would mix or split clusters", async () => {
    await using a = await openStore(onEtcd());
    await populate(a, "n1");
    await using other = await openStore(onRedis("other"));
    await populate(other, "m1");
    await using odd = await openStore(onRedis("odd"));
    await odd.txn({ then: [{ put: "x", value: "" }] });
    const before = [await contents(onEtcd()), await contents(onRedis("other"))];
    const copy = async (from: string, to: string): Promise<string | undefined> =>
      (await runCommand(["store", "copy", "--from", from, "--to", to])).failure;
    expect(await copy(onEtcd(), onRedis("other"))).toMatch(
      /^redis:.* holds another cluster .*; name another prefix/,
    );
    expect(await copy(onEtcd(), onRedis("odd"))).toMatch(
      /^redis:.* is not empty: it has x, and no cluster; /,
    );
    expect(await copy(onEtcd(), onEtcd())).toMatch(/holds this cluster already, and it is in use there/);
    expect(await copy(onEtcd("none"), onRedis())).toMatch(/^there is no cluster in etcd:.*; check the URL/);
    expect(await copy(onEtcd(), "memory:")).toMatch(
      /'--to <url>': memory: ends with this command, and the cluster with it; /,
    );
    expect(await copy(onEtcd(), "mysql://h")).toMatch(/^unknown store scheme "mysql:"/);
    expect(await copy(onEtcd(), `${onEtcd()}/inside`)).toMatch(/^the prefix of .* lies within that of /);
    expect(await copy(onEtcd(), "etcd://127.0.0.1:1/x")).toMatch(/^[^\n]*127\.0\.0\.1:1[^\n]*$/);
    await using session = await a.session(60_000);
    await a.txn({ then: [{ put: keys.alive("n1"), value: "{}", session }] });
    expect(await copy(onEtcd(), onRedis())).toMatch(
      / is in use by 1 agent \(n1\); stop them, or copy with --live$/,
    );
    await a.txn({ then: [{ delete: keys.alive("n1") }] });
    expect([await contents(onEtcd()), await contents(onRedis("other"))]).toEqual(before);
    // None of that has closed the source.
    await register(a, "n2");
  });

  it("with --live: nobody loses a registration, and no slot gets two owners (G1)", async () => {
    await using a = await openStore(onEtcd());
    await using b = await openStore(onRedis());
    await populate(a, "n1");
    await using session = await a.session(60_000);
    await a.txn({ then: [{ put: keys.leader, value: "{}", session }] });
    const joined: Registration[] = [];
    const refusals: unknown[] = [];
    const join = async (lane: number): Promise<void> => {
      // Fewer than there are slots, and more than there is time for.
      for (let number = 0; number < 1_200; number++) {
        try {
          joined.push(await register(a, `j${lane}-${number}`));
        } catch (error) {
          refusals.push(error);
          return;
        }
      }
    };
    const lanes = [1, 2, 3].map(join);
    await expect.poll(() => joined.length, { timeout: 60_000 }).toBeGreaterThan(5);
    const copied = await runCommand([
      "store",
      "copy",
      "--from",
      onEtcd(),
      "--to",
      onRedis(),
      "--live",
      "--verify",
    ]);
    await Promise.all(lanes);
    expect(copied.failure).toBeUndefined();
    expect(refusals.map((error) => error instanceof ConflictError)).toEqual([true, true, true]);
    // The leader there was deposed in the same step.
    expect((await a.get(keys.leader)).entry).toBeUndefined();
    for (const owned of joined) await (await recordedRegistration(b, onRecord(owned, a))).verify();
    for (let number = 0; number < 5; number++) joined.push(await register(b, `late-${number}`));
    expect(new Set(joined.map(({ subnet }) => subnet)).size).toBe(joined.length);
  });

  it("leaves daemons at work: those that are moved later, and those that never are when the cluster comes back", async () => {
    await using a = await openStore(onEtcd());
    const files = await populate(a, "n1", "n2");
    await using mover = new Daemon(await known(files, "n1"));
    await using stayer = new Daemon(await known(files, "n2"));
    mover.run(onEtcd());
    stayer.run(onEtcd());
    await mover.grants();
    await stayer.grants();

    const there = ["store", "copy", "--from", onEtcd(), "--to", onRedis()];
    expect((await runCommand(there)).failure).toMatch(/is in use by 2 agents \(n1, n2\); stop them/);
    expect((await runCommand([...there, "--live", "--verify"])).failure).toBeUndefined();
    expect([mover.granting, stayer.granting]).toEqual(["open", "open"]);
    await mover.stop();
    mover.run(onRedis());
    await mover.grants();

    const back = ["store", "copy", "--from", onRedis(), "--to", onEtcd(), "--live", "--verify"];
    expect((await runCommand(back)).failure).toBeUndefined();
    // The copy gave n2's ownership another epoch under its running daemon.
    const claim = async (): Promise<number | undefined> =>
      (await a.get(keys.subnet("n2"))).entry?.modRevision;
    await expect.poll(() => stayer.owned?.epoch, { timeout: 60_000 }).toBe(await claim());
    await stayer.grants();
    await mover.stop();
    mover.run(onEtcd());
    await mover.grants();
    for (const daemon of [mover, stayer]) {
      expect(daemon.granted).not.toContain("refuse");
      expect(daemon.withdrawn).toBe(false);
    }
  });

  it("closes nothing when it is stopped, and goes on when it is run again", async () => {
    await using a = await openStore(onEtcd());
    await populate(a, "n1");
    for (let batch = 0; batch < 40; batch++) {
      const puts = Array.from({ length: 100 }, (_, at) => ({
        put: `bulk/${batch}-${at}`,
        value: "x".repeat(200),
      }));
      await a.txn({ then: puts });
    }
    await using b = await openStore(onRedis());
    const stop = new AbortController();
    const args = ["store", "copy", "--from", onEtcd(), "--to", onRedis(), "--verify"];
    const running = runCommand(args, { signal: stop.signal });
    await expect
      .poll(async () => (await b.list("bulk/", { limit: 1 })).entries.length, {
        timeout: 10_000,
        interval: 1,
      })
      .toBe(1);
    stop.abort();
    const stopped = await running;
    expect(stopped.failure).toBeDefined();
    await register(a, "n2");
    await expect(register(b, "n3")).rejects.toThrow(/is being filled from etcd:.* and is not in use yet/);
    const init = ["cluster", "init", "--store", onRedis(), "--parent-cidr", "10.0.0.0/16"];
    expect((await runCommand(init)).failure).toMatch(/is being filled from/);
    await a.txn({ then: [{ delete: "bulk/0-0" }] });
    expect((await runCommand(args)).failure).toBeUndefined();
    expect(await contents(onRedis())).toEqual(await contents(onEtcd()));
  });
});
