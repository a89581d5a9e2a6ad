import {
  acknowledgeMove,
  ConflictError,
  encode,
  FencedError,
  formatAddress,
  keys,
  type LeaseRecord,
  type MirrorChange,
  parseCidr,
  prefixes,
  Registration,
  Registry,
  type Store,
  type TxnResult,
  UnavailableError,
} from "@cocoon-net/core";
import { expect } from "vitest";
import { contentsOf, endQuarantine, leaseOf, openCluster, requestOf, takeAway } from "./cluster-fixture.ts";
import {
  beforeWriting,
  compactWhileListing,
  countTxns,
  interceptTxn,
  loseAnswers,
} from "./intercepted-store.ts";
import type { Rule } from "./rule.ts";

const register = (store: Store, node: string, subnet?: string, uid?: string): Promise<Registration> =>
  new Registry(store).register(requestOf(node, subnet, uid));

/** The same ownership, over another path. */
const through = (store: Store, { node, uid, subnet, epoch, config }: Registration): Registration =>
  new Registration(store, { node, uid, subnet, epoch, config });

export function registrationRules(rule: Rule): void {
  const losses: readonly (readonly [string, (store: Store, registration: Registration) => Promise<void>])[] =
    [
      ["its subnet was taken away", takeAway],
      [
        "its subnet was taken away and given to another node",
        async (store, registration) => {
          await takeAway(store, registration);
          await endQuarantine(store, registration.subnet);
          await register(store, "other", registration.subnet);
        },
      ],
      [
        "it was registered anew with the same subnet",
        async (store, registration) => {
          await takeAway(store, registration);
          const anew = await register(store, registration.node);
          expect(anew.subnet).toBe(registration.subnet);
        },
      ],
      [
        "its name has gone to another instance",
        async (store, registration) => {
          await takeAway(store, registration);
          await endQuarantine(store, registration.subnet);
          await register(store, registration.node, undefined, "another");
        },
      ],
      [
        "all trace of it was deleted",
        async (store, registration) => {
          await store.txn({
            then: [{ delete: keys.subnet(registration.node) }, { delete: keys.node(registration.node) }],
          });
        },
      ],
    ];
  for (const [what, lose] of losses) {
    // Catalogue 1. Guard: packages/core/src/registration.ts, Registration.#write: every write compares the epoch.
    rule(`a node can change nothing once ${what} (G3)`, async (bench, expect) => {
      const store = await openCluster(bench);
      const registration = await register(store, "a");
      await registration.mirror([["10.64.0.9", leaseOf("a")]]);
      await lose(await bench.open(), registration);
      const session = bench.use(await store.session(20_000));
      const before = await contentsOf(store);
      const writes: Record<string, () => Promise<unknown>> = {
        verify: () => registration.verify(),
        announce: () => registration.announce(session),
        mirror: () =>
          registration.mirror([
            ["10.64.0.9", undefined],
            ["10.64.0.10", leaseOf("a", 2)],
          ]),
        update: () => registration.update({ agentVersion: "9.9.9" }),
        leave: () => registration.leave(),
      };
      for (const [name, write] of Object.entries(writes)) {
        await expect(write(), name).rejects.toThrow(FencedError);
        expect(await contentsOf(store), name).toEqual(before);
      }
    });
  }

  rule("a node that loses its subnet between look and write changes nothing (G3)", async (bench, expect) => {
    const store = await openCluster(bench);
    for (const [node, key, write] of [
      ["a", keys.node("a"), (registration: Registration) => registration.update({ agentVersion: "9.9.9" })],
      ["b", keys.subnet("b"), (registration: Registration) => registration.leave()],
    ] as const) {
      let before = {};
      const racing = beforeWriting(store, key, async () => {
        await store.txn({ then: [{ delete: keys.subnet(node) }] });
        before = await contentsOf(store);
      });
      const registration = through(racing, await register(store, node));
      await expect(write(registration), node).rejects.toThrow(FencedError);
      expect(await contentsOf(store), node).toEqual(before);
    }
  });

  rule("the fence holds for as long as the node owns its subnet", async (bench, expect) => {
    const store = await openCluster(bench);
    const registration = await register(store, "a");
    await registration.verify();
    await registration.update({ agentVersion: "2.0.0" });
    await registration.mirror([["10.64.0.9", leaseOf("a")]]);
    await registration.verify();
    expect((await store.txn({ if: [registration.fence] })).succeeded).toBe(true);
  });

  rule(
    "a mirror that lands only after its node has acted by a move changes nothing (G2)",
    async (bench, expect) => {
      const store = await openCluster(bench);
      const owned = await register(store, "a");
      const address = owned.subnet.replace("0/24", "9");
      let land = async (): Promise<TxnResult | undefined> => undefined;
      const losing = interceptTxn(store, (_, pass) => {
        land = pass;
        throw new UnavailableError("no answer", { outcome: "unknown" });
      });
      await owned.mirror([[address, leaseOf("a")]]);
      await expect(through(losing, owned).mirror([[address, leaseOf("a", 2)]])).rejects.toThrow(
        UnavailableError,
      );
      const move = { intent: "m1", from: "a", to: "b", toUID: "i-b", ready: [] };
      const moved = {
        home: "a",
        subnet: owned.subnet,
        node: "a",
        uid: owned.uid,
        mac: leaseOf("a").mac,
        seq: 1,
        move,
      };
      await store.txn({ then: [{ put: keys.moved(address), value: encode(moved) }] });
      const { entry } = await store.get(keys.moved(address));
      if (entry === undefined) throw new Error("the record is missing");
      const another = through(store, owned);
      await another.mirror([[address, leaseOf("a")]]);
      expect(await acknowledgeMove(store, owned, entry)).toBe(true);
      const swapped = { ...leaseOf("b"), node: "b" };
      await store.txn({ then: [{ put: keys.pool(address), value: encode(swapped) }] });
      expect((await land())?.succeeded).toBe(false);
      const other = owned.subnet.replace("0/24", "10");
      // The process that has acted knows what is true now, another one of the node has to look first.
      await owned.mirror([[other, leaseOf("a")]]);
      await expect(another.mirror([[address, leaseOf("a")]])).rejects.toThrow(ConflictError);
      expect(await owned.mirrored()).toEqual(
        new Map([
          [address, swapped],
          [other, leaseOf("a")],
        ]),
      );
      await another.mirror([[other, undefined]]);
      await through(store, owned).mirror([[other, leaseOf("a")]]);
    },
  );

  rule("more leases than one transaction takes are mirrored, again and away", async (bench, expect) => {
    const store = await openCluster(bench);
    const count = { transactions: 0 };
    const registration = through(countTxns(store, count), await register(store, "a", "10.64.4.0/22"));
    const base = parseCidr(registration.subnet).base;
    const leases = Array.from({ length: 300 }, (_, i): [string, LeaseRecord] => [
      formatAddress(base + 1 + i),
      leaseOf("a", i),
    ]);
    await registration.mirror(leases);
    const limit = store.capabilities.maxOperations;
    expect(count.transactions).toBe(Math.ceil(300 / limit));
    await registration.mirror(leases);
    expect(await registration.mirrored()).toEqual(new Map(leases));
    const away = leases.slice(0, 250).map(([address]): MirrorChange => [address, undefined]);
    await registration.mirror(away);
    await registration.mirror(away);
    expect(await registration.mirrored()).toEqual(new Map(leases.slice(250)));
  });

  rule(
    "all of a large subnet's leases are read, also when history is compacted meanwhile",
    async (bench, expect) => {
      const store = await openCluster(bench, { nodePrefix: 16 });
      const registration = await register(store, "a");
      const base = parseCidr(registration.subnet).base;
      const leases = Array.from({ length: 5_100 }, (_, i): [string, LeaseRecord] => [
        formatAddress(base + i),
        leaseOf("a", i),
      ]);
      await registration.mirror(leases);
      const read = await through(compactWhileListing(store), registration).mirrored();
      expect(read.size).toBe(leases.length);
      expect(Object.fromEntries(read)).toEqual(Object.fromEntries(leases));
    },
  );

  rule("of two changes of one address the later is mirrored", async (bench, expect) => {
    const store = await openCluster(bench);
    const registration = await register(store, "a");
    await registration.mirror([
      ["10.64.0.9", leaseOf("a", 1)],
      ["10.64.0.9", leaseOf("a", 2)],
    ]);
    expect((await registration.mirrored()).get("10.64.0.9")?.seq).toBe(2);
  });

  rule("a node mirrors nothing outside its subnet (G2)", async (bench, expect) => {
    const store = await openCluster(bench);
    const registration = await register(store, "a");
    const other = await register(store, "b");
    await other.mirror([["10.64.1.9", leaseOf("b")]]);
    for (const change of [
      ["10.64.1.9", undefined],
      ["10.64.1.9", leaseOf("a")],
      ["10.65.0.1", leaseOf("a")],
    ] as const) {
      await expect(registration.mirror([["10.64.0.9", leaseOf("a")], change])).rejects.toMatchObject({
        code: "invalid",
      });
    }
    expect(await contentsOf(store, prefixes.pool)).toEqual({ "pool/10.64.1.9": encode(leaseOf("b")) });
  });

  for (const [subnet, nodePrefix, inside, outside] of [
    [
      "10.64.1.0/24",
      24,
      ["10.64.1.0", "10.64.1.255"],
      ["10.64.0.255", "10.64.2.0", "10.64.10.1", "10.64.11.1"],
    ],
    [
      "10.64.16.0/20",
      24,
      ["10.64.16.0", "10.64.20.7", "10.64.31.255"],
      ["10.64.15.255", "10.64.32.0", "10.64.160.1"],
    ],
    [
      "10.64.1.16/28",
      28,
      ["10.64.1.16", "10.64.1.31"],
      ["10.64.1.15", "10.64.1.32", "10.64.1.1", "10.64.1.160"],
    ],
    [
      "10.64.0.0/16",
      16,
      ["10.64.0.0", "10.64.200.1", "10.64.255.255"],
      ["10.63.255.255", "10.65.0.0", "10.6.4.0"],
    ],
  ] as const) {
    rule(
      `what is mirrored of ${subnet} is read, and left, without its neighbours'`,
      async (bench, expect) => {
        const store = await openCluster(bench, { parentCIDR: "10.0.0.0/8", nodePrefix });
        const registration = await register(store, "a", subnet);
        await registration.mirror(inside.map((address): MirrorChange => [address, leaseOf("a")]));
        const foreign = Object.fromEntries(
          outside.map((address) => [keys.pool(address), encode(leaseOf("b"))]),
        );
        await store.txn({ then: Object.entries(foreign).map(([key, value]) => ({ put: key, value })) });
        expect(await registration.mirrored()).toEqual(
          new Map(inside.map((address) => [address, leaseOf("a")])),
        );
        await registration.leave();
        expect(await contentsOf(store, prefixes.pool)).toEqual(foreign);
      },
    );
  }

  rule(
    "an update keeps what others write into the record meanwhile, and unknown fields",
    async (bench, expect) => {
      const [store, other] = [await openCluster(bench), await bench.open()];
      const registration = through(
        beforeWriting(store, keys.node("a"), async () => {
          const record = JSON.parse((await other.get(keys.node("a"))).entry?.value ?? "");
          const value = encode({ ...record, status: "suspect", rack: { row: 7 } });
          await other.txn({ then: [{ put: keys.node("a"), value }] });
        }),
        await register(store, "a"),
      );
      await registration.update({
        pool: { size: 140, leased: 3, free: 137 },
        maxLeaseEnd: "2030-01-01T00:00:00Z",
      });
      const record = JSON.parse((await store.get(keys.node("a"))).entry?.value ?? "");
      expect(record).toMatchObject({
        uid: "uid-a",
        status: "suspect",
        rack: { row: 7 },
        pool: { size: 140, leased: 3, free: 137 },
        maxLeaseEnd: "2030-01-01T00:00:00Z",
      });
    },
  );

  rule("a node that leaves leaves nothing but its record and the log", async (bench, expect) => {
    const store = await openCluster(bench);
    const registration = await register(store, "a", "10.64.2.0/23");
    const session = bench.use(await store.session(20_000));
    await registration.announce(session);
    const base = parseCidr(registration.subnet).base;
    await registration.mirror(
      Array.from({ length: 200 }, (_, i): MirrorChange => [formatAddress(base + 1 + i), leaseOf("a", i)]),
    );
    await registration.leave();
    const left = Object.keys(await contentsOf(store)).filter((key) => !key.startsWith(prefixes.events));
    expect(left).toEqual([keys.config, keys.incarnation, keys.node("a")]);
    expect(JSON.parse((await store.get(keys.node("a"))).entry?.value ?? "")).toMatchObject({
      status: "left",
    });
  });

  rule("leaving can be repeated after a lost answer, whatever was lost", async (bench, expect) => {
    const store = await openCluster(bench);
    for (const [node, key] of [
      ["a", keys.subnet("a")],
      ["b", keys.pool("10.64.0.9")],
    ] as const) {
      const registration = await register(store, node);
      await registration.mirror([["10.64.0.9", leaseOf(node)]]);
      const lossy = through(loseAnswers(store, key, "unknown"), registration);
      await expect(lossy.leave()).rejects.toMatchObject({ code: "unavailable" });
      await lossy.leave();
      await lossy.leave();
      expect(await contentsOf(store, prefixes.slots)).toEqual({});
      expect(await contentsOf(store, prefixes.pool)).toEqual({});
    }
    expect(Object.keys(await contentsOf(store, prefixes.events))).toHaveLength(4);
  });

  rule("leaving keeps what others write into the record meanwhile", async (bench, expect) => {
    const store = await openCluster(bench);
    const racing = beforeWriting(store, keys.subnet("a"), async () => {
      const record = JSON.parse((await store.get(keys.node("a"))).entry?.value ?? "");
      await store.txn({ then: [{ put: keys.node("a"), value: encode({ ...record, rack: 7 }) }] });
    });
    await through(racing, await register(store, "a")).leave();
    expect(JSON.parse((await store.get(keys.node("a"))).entry?.value ?? "")).toMatchObject({
      status: "left",
      rack: 7,
    });
  });
}
