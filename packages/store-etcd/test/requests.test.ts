import { initCluster, listAll, Registry } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WatchRecord } from "./watch-record.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startEtcd();
});
afterAll(() => server[Symbol.asyncDispose]());

/** How many requests of each kind on the key space the server has taken. */
async function served(): Promise<{ Txn: number; Range: number; others: number }> {
  const metrics = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  const counts = { Txn: 0, Range: 0, others: 0 };
  for (const [, method, count] of metrics.matchAll(
    /^grpc_server_started_total\{grpc_method="(\w+)",grpc_service="etcdserverpb.KV",[^}]*\} (\d+)/gm,
  )) {
    counts[method === "Txn" || method === "Range" ? method : "others"] += Number(count);
  }
  return counts;
}

/** The requests that `work` costs. */
async function cost(work: () => Promise<unknown>): Promise<{ Txn: number; Range: number; others: number }> {
  const before = await served();
  await work();
  const after = await served();
  return {
    Txn: after.Txn - before.Txn,
    Range: after.Range - before.Range,
    others: after.others - before.others,
  };
}

describe("what calls cost in requests", () => {
  it("one for each transaction, page and read", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/requests`);
    const puts = (start: number) =>
      Array.from({ length: 128 }, (_, at) => ({ put: `k/${start + at}`, value: "v" }));
    expect(await cost(() => store.txn({ then: puts(0) }))).toEqual({ Txn: 1, Range: 0, others: 0 });
    expect(await cost(() => store.get("k/0"))).toEqual({ Txn: 0, Range: 1, others: 0 });
    for (let start = 128; start < 12_000; start += 128) await store.txn({ then: puts(start) });
    const { entries } = await listAll(store, "k/");
    expect(await cost(() => store.list("k/", { limit: 5_000 }))).toEqual({ Txn: 0, Range: 1, others: 0 });
    // A later page costs one for each byte in which its keys differ: etcd counts what is in a range.
    const later = await cost(() => store.list("k/", { limit: 5_000, after: "k/1" }));
    expect(later).toMatchObject({ Txn: 0, others: 0 });
    expect(later.Range).toBeLessThan(8);
    // Two pages, and the look whether this is the history that is known.
    const watching = await cost(async () => {
      await using watch = new WatchRecord(store, "k/");
      await watch.until("snapshot", 20_000, ({ snapshots }) => snapshots === 1);
      const [snapshot] = watch.batches;
      expect(snapshot?.type === "snapshot" && snapshot.entries.length).toBe(entries.length);
    });
    expect(watching.Range).toBeLessThan(10);
  }, 90_000);

  it("pages hold the keys in the order of their bytes, whatever the keys and the size of a page", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/pages`);
    const pieces = ["", "0", "9", "/", "\x01", "\x7f", "é", "\uffff", "😀"];
    const names = new Set(pieces.flatMap((a) => pieces.flatMap((b) => pieces.map((c) => a + b + c))));
    const inOrder = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    // The one before and the one behind are none of them.
    const around = ["p", "p."].map((put) => ({ put, value: "" }));
    let { revision } = await store.txn({ then: around });
    for (let start = 0; start < inOrder.length; start += 128) {
      const puts = inOrder.slice(start, start + 128).map((name) => ({ put: `p-${name}`, value: name }));
      ({ revision } = await store.txn({ then: puts }));
    }
    for (const limit of [3, 7, 100, inOrder.length - 1, inOrder.length]) {
      const pages: string[][] = [];
      let after: string | undefined;
      do {
        const page = await store.list("p-", after === undefined ? { limit } : { limit, after, revision });
        pages.push(page.entries.map((entry) => entry.value));
        after = page.next;
      } while (after !== undefined);
      expect(pages.flat()).toEqual(inOrder);
      expect(pages.slice(0, -1).every((page) => page.length === limit)).toBe(true);
      expect(pages).toHaveLength(Math.ceil(inOrder.length / limit));
    }
  });

  it("what the last answer says of the server costs nothing", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/requests`);
    const asked = await store.incarnation();
    const fromLastAnswer = () => store.incarnation({ fromLastAnswer: true });
    expect(await cost(() => store.incarnation())).toEqual({ Txn: 0, Range: 1, others: 0 });
    expect(await cost(fromLastAnswer)).toEqual({ Txn: 0, Range: 0, others: 0 });
    expect(await fromLastAnswer()).toBe(asked);
  });

  it("registering costs a look and the claims; nothing is listed", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/register`);
    await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test" });
    const register = (node: string) => new Registry(store).register({ node, uid: node, agentVersion: "0" });
    expect(await cost(() => register("a"))).toEqual({ Txn: 2, Range: 0, others: 0 });
    expect(await cost(() => register("a"))).toEqual({ Txn: 1, Range: 0, others: 0 });
    // The second node reads the small cluster to get the lowest slot.
    expect(await cost(() => register("b"))).toEqual({ Txn: 3, Range: 1, others: 0 });
  });

  it("mirroring costs one for 128 leases", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/mirror`);
    await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test" });
    const registration = await new Registry(store).register({ node: "a", uid: "a", agentVersion: "0" });
    const mac = "02:00:00:00:00:01";
    const lease = { node: "a", mac, expiry: "2030-01-01T00:00:00.000Z", seq: 1 };
    const leases = Array.from({ length: 140 }, (_, at) => [`10.64.0.${at + 1}`, lease] as const);
    expect(await cost(() => registration.mirror(leases))).toEqual({ Txn: 2, Range: 0, others: 0 });
  });
});

it("one connection carries calls, sessions and watches", async () => {
  await using proxy = await startFaultProxy({ target: server });
  await using store = await openEtcdStore(`etcd://127.0.0.1:${proxy.port}/one`);
  await using session = await store.session(30_000);
  await using watch = new WatchRecord(store, "k/");
  await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
  await store.txn({ then: [{ put: "k/1", value: "", session }] });
  await watch.until("change", 15_000, ({ changes }) => changes.length === 1);
  expect(proxy.connections).toBe(1);
});
