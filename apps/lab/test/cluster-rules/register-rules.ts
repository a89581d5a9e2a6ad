import {
  ConflictError,
  decode,
  ExhaustedError,
  encode,
  InvalidError,
  keys,
  NotFoundError,
  nodeSchema,
  prefixes,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { contentsOf, endQuarantine, openCluster, ownersIn, requestOf, takeAway } from "./cluster-fixture.ts";
import { beforeWriting, countTxns, loseAnswers } from "./intercepted-store.ts";
import type { Rule } from "./rule.ts";

const register = (store: Store, node: string, subnet?: string, uid?: string): Promise<Registration> =>
  new Registry(store).register(requestOf(node, subnet, uid));

export function registerRules(rule: Rule): void {
  rule("nodes get the lowest free slots, reserved ones left out", async (bench, expect) => {
    const store = await openCluster(bench, { reserved: ["10.64.1.128/25", "10.64.4.0/23"] });
    expect(await new Registry(store).nextFree()).toBe("10.64.0.0/24");
    const subnets: string[] = [];
    for (const node of ["a", "b", "c", "d", "e"]) subnets.push((await register(store, node)).subnet);
    expect(subnets).toEqual(["10.64.0.0/24", "10.64.2.0/24", "10.64.3.0/24", "10.64.6.0/24", "10.64.7.0/24"]);
  });

  rule("a slot that was left is the lowest again", async (bench, expect) => {
    const store = await openCluster(bench);
    await register(store, "a");
    const b = await register(store, "b");
    await register(store, "c");
    await b.leave();
    expect((await register(store, "d")).subnet).toBe(b.subnet);
  });

  rule("wide and narrow subnets take whole slots", async (bench, expect) => {
    const store = await openCluster(bench);
    await register(store, "wide", "10.64.0.0/23");
    await register(store, "narrow", "10.64.2.128/25");
    expect((await register(store, "next")).subnet).toBe("10.64.3.0/24");
    expect(Object.keys(await contentsOf(store, prefixes.slots))).toEqual(
      [0, 1, 2, 3].map((i) => keys.slot(`10.64.${i}.0/24`)),
    );
    for (const subnet of ["10.64.0.0/22", "10.64.1.0/24", "10.64.2.0/25", "10.64.1.64/26"]) {
      await expect(register(store, "late", subnet), subnet).rejects.toThrow(ConflictError);
    }
  });

  rule("the same node gets the same registration again, with its epoch", async (bench, expect) => {
    const store = await openCluster(bench);
    const first = await register(store, "a");
    const before = await contentsOf(store);
    const again = await register(await bench.open(), "a");
    expect([again.subnet, again.epoch]).toEqual([first.subnet, first.epoch]);
    expect((await register(store, "a", first.subnet)).epoch).toBe(first.epoch);
    expect(await contentsOf(store)).toEqual(before);
    const other = register(store, "a", "10.64.9.0/24");
    await expect(other).rejects.toThrow(ConflictError);
    await expect(other).rejects.toThrow("owns 10.64.0.0/24 already");
  });

  // Catalogue 9. Guard: packages/core/src/registry.ts, Registry.#existing: the UID on record is compared.
  rule("another instance with the same name gets nothing of it (G12)", async (bench, expect) => {
    const store = await openCluster(bench);
    const first = await register(store, "a");
    const before = await contentsOf(store);
    for (const subnet of [undefined, first.subnet, "10.64.9.0/24"]) {
      const attempt = register(store, "a", subnet, "another");
      await expect(attempt).rejects.toThrow(ConflictError);
      await expect(attempt).rejects.toThrow("uid-a");
    }
    expect(await contentsOf(store)).toEqual(before);
  });

  rule("a name is free for anybody once its node has left", async (bench, expect) => {
    const store = await openCluster(bench);
    await (await register(store, "a")).leave();
    const next = await register(store, "a", undefined, "another");
    const { entry } = await store.get(keys.node("a"));
    expect(entry && decode(nodeSchema, entry)).toMatchObject({
      uid: "another",
      status: "ready",
      subnet: next.subnet,
    });
  });

  rule("a node that is being reclaimed waits", async (bench, expect) => {
    const store = await openCluster(bench);
    await register(store, "a");
    const { entry } = await store.get(keys.node("a"));
    const record = { ...JSON.parse(entry?.value ?? ""), status: "fencing" };
    await store.txn({ then: [{ put: keys.node("a"), value: encode(record) }] });
    await expect(register(store, "a")).rejects.toThrow("being reclaimed (fencing)");
  });

  rule("a subnet of somebody else names its owner", async (bench, expect) => {
    const store = await openCluster(bench);
    await register(store, "owner", "10.64.4.0/23");
    const attempt = register(store, "b", "10.64.5.0/25");
    await expect(attempt).rejects.toThrow(ConflictError);
    await expect(attempt).rejects.toThrow(
      "subnet 10.64.5.0/25 overlaps 10.64.5.0/24, which belongs to node owner",
    );
    expect([...(await ownersIn(store)).keys()]).toEqual(["owner"]);
  });

  rule(
    "unusable requests are refused: subnet outside, reserved, malformed, too wide; a bad name",
    async (bench, expect) => {
      const store = await openCluster(bench, { reserved: ["10.64.0.0/24"] });
      const before = await contentsOf(store);
      for (const subnet of [
        "10.65.0.0/24",
        "10.0.0.0/8",
        "10.64.0.0/23",
        "10.64.0.64/26",
        "10.64.1.1/24",
        "10.64.1.0",
      ]) {
        await expect(register(store, "a", subnet), subnet).rejects.toThrow(InvalidError);
      }
      await expect(register(store, "a", "10.64.128.0/17")).rejects.toThrow(/10\.64\.128\.0\/17.*128 slots/);
      for (const node of ["", "a/b", "-a", "a b"]) {
        await expect(register(store, node), node).rejects.toThrow(InvalidError);
      }
      expect(await contentsOf(store)).toEqual(before);
      await expect(register(await bench.open(`${bench.prefix}/empty`), "a")).rejects.toThrow(NotFoundError);
    },
  );

  rule("a full parent says so, until something is free again", async (bench, expect) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/22", reserved: ["10.64.1.0/24"] });
    for (const node of ["a", "b", "c"]) await register(store, node);
    const attempt = register(store, "d");
    await expect(attempt).rejects.toThrow(ExhaustedError);
    await expect(attempt).rejects.toThrow("no free /24 is left in 10.64.0.0/22 (3 slots)");
    await expect(new Registry(store).nextFree()).rejects.toThrow(ExhaustedError);
    await (await register(store, "b")).leave();
    expect((await register(store, "d")).subnet).toBe("10.64.2.0/24");
  });

  for (const [outcome, subnet] of [
    ["unknown", undefined],
    ["none", undefined],
    ["unknown", "10.64.7.0/24"],
    ["none", "10.64.7.0/24"],
  ] as const) {
    const what = subnet === undefined ? "any slot" : "a given subnet";
    rule(
      `a claim of ${what} whose answer was lost (outcome ${outcome}) ends in one registration`,
      async (bench, expect) => {
        const store = await openCluster(bench);
        const lossy = loseAnswers(store, keys.subnet("a"), outcome, 2);
        const registration = await register(lossy, "a", subnet);
        expect(registration.subnet).toBe(subnet ?? "10.64.0.0/24");
        await registration.verify();
        expect([...(await ownersIn(store))]).toEqual([["a", registration.subnet]]);
        expect(Object.keys(await contentsOf(store, prefixes.slots))).toEqual([
          keys.slot(registration.subnet),
        ]);
        expect(Object.keys(await contentsOf(store, prefixes.events))).toHaveLength(1);
      },
    );
  }

  rule("a claim that arrives late, while the node tries again, is its own", async (bench, expect) => {
    const store = await openCluster(bench);
    for (const [node, subnet] of [["a"], ["b", "10.64.9.0/24"]] as const) {
      const late = beforeWriting(store, keys.subnet(node), async () => {
        await register(store, node, subnet);
      });
      const count = { transactions: 0 };
      const registration = await register(countTxns(late, count), node, subnet);
      await registration.verify();
      // Seen for what it is: not as one lost race after the other.
      expect(count.transactions).toBeLessThanOrEqual(5);
    }
    expect((await ownersIn(store)).size).toBe(2);
  });

  rule("a name that is taken between look and claim owns one subnet (G1, G12)", async (bench, expect) => {
    const store = await openCluster(bench);
    const racing = (node: string, subnet: string, uid?: string) =>
      beforeWriting(store, keys.subnet(node), async () => {
        await register(store, node, subnet, uid);
      });
    expect((await register(racing("a", "10.64.9.0/24"), "a")).subnet).toBe("10.64.9.0/24");
    await expect(register(racing("b", "10.64.8.0/24"), "b", "10.64.7.0/24")).rejects.toThrow(ConflictError);
    await expect(register(racing("c", "10.64.6.0/24", "another"), "c")).rejects.toThrow(ConflictError);
    expect(Object.fromEntries(await ownersIn(store))).toEqual({
      a: "10.64.9.0/24",
      b: "10.64.8.0/24",
      c: "10.64.6.0/24",
    });
    expect(Object.keys(await contentsOf(store, prefixes.slots))).toHaveLength(3);
  });

  rule("a config that changes between look and claim is looked at again", async (bench, expect) => {
    const store = await openCluster(bench);
    const { entry } = await store.get(keys.config);
    const changed = encode({ ...JSON.parse(entry?.value ?? ""), reserved: ["10.64.0.0/23"] });
    const racing = (node: string, value: string) =>
      beforeWriting(store, keys.subnet(node), async () => {
        await store.txn({ then: [{ put: keys.config, value }] });
      });
    const count = { transactions: 0 };
    const registration = await register(countTxns(racing("a", changed), count), "a");
    expect(registration.subnet).toBe("10.64.2.0/24");
    expect(count.transactions).toBeLessThanOrEqual(4);
    expect((await register(racing("b", entry?.value ?? ""), "b", "10.64.5.0/24")).subnet).toBe(
      "10.64.5.0/24",
    );
    await expect(register(racing("c", changed), "c", "10.64.1.0/24")).rejects.toThrow(InvalidError);
  });

  rule("a block in quarantine goes back to its instance, and to nobody else", async (bench, expect) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/22" });
    const lost = await register(store, "a", "10.64.0.0/23");
    await takeAway(store, lost);
    const quarantined = await contentsOf(store);
    for (const node of ["a", "b"]) {
      const attempt = register(store, node, "10.64.1.0/24", "another");
      await expect(attempt).rejects.toThrow(ConflictError);
      await expect(attempt).rejects.toThrow("overlaps 10.64.1.0/24, which is in quarantine");
    }
    expect(await contentsOf(store)).toEqual(quarantined);
    // Not even under its name (G12), and not when nothing else is left.
    expect((await register(store, "a", undefined, "another")).subnet).toBe("10.64.2.0/24");
    expect((await register(store, "b")).subnet).toBe("10.64.3.0/24");
    await expect(register(store, "c")).rejects.toThrow(ExhaustedError);
    // The instance itself, by whatever name.
    const back = await register(store, "a2", undefined, lost.uid);
    expect(back.subnet).toBe(lost.subnet);
    expect(back.epoch).toBeGreaterThan(lost.epoch);
    await expect(lost.verify()).rejects.toMatchObject({ code: "fenced" });
    expect(await contentsOf(store, prefixes.quarantine)).toEqual({});
    expect(await contentsOf(store, "slots/10.64.1.0/24")).toEqual({
      "slots/10.64.1.0/24": encode({ node: "a2", uid: lost.uid }),
    });
  });

  rule("a lost answer on the way out of quarantine ends in one registration", async (bench, expect) => {
    const store = await openCluster(bench);
    const lost = await register(store, "a");
    await takeAway(store, lost);
    const back = await register(loseAnswers(store, keys.subnet("a"), "unknown"), "a");
    expect(back.subnet).toBe(lost.subnet);
    await back.verify();
    expect([...(await ownersIn(store))]).toEqual([["a", lost.subnet]]);
  });

  rule("a quarantine that ends between look and claim is no way in", async (bench, expect) => {
    const store = await openCluster(bench);
    const lost = await register(store, "a");
    await takeAway(store, lost);
    const racing = beforeWriting(store, keys.subnet("a"), async () => {
      await endQuarantine(store, lost.subnet);
      await register(store, "b", lost.subnet);
    });
    expect((await register(racing, "a")).subnet).toBe("10.64.1.0/24");
    expect(Object.fromEntries(await ownersIn(store))).toEqual({ a: "10.64.1.0/24", b: "10.64.0.0/24" });
  });

  rule("quarantine and slots written by another version are understood", async (bench, expect) => {
    const store = await openCluster(bench);
    const lost = await register(store, "a");
    await takeAway(store, lost);
    const value = JSON.stringify({ uid: lost.uid, node: "", since: "2026-11-24T00:00:00Z" });
    await store.txn({ then: [{ put: keys.slot(lost.subnet), value }] });
    expect((await register(store, "a")).subnet).toBe(lost.subnet);
  });

  rule("the event log tells the story in its order", async (bench, expect) => {
    const store = await openCluster(bench);
    const a = await register(store, "a");
    await register(store, "b");
    await a.leave();
    await register(store, "c");
    const told = Object.values(await contentsOf(store, prefixes.events)).map((value) => {
      const { type, node, subnet } = JSON.parse(value);
      return [type, node, subnet].join(" ");
    });
    expect(told).toEqual([
      "node-registered a 10.64.0.0/24",
      "node-registered b 10.64.1.0/24",
      "node-left a 10.64.0.0/24",
      "node-registered c 10.64.0.0/24",
    ]);
  });
}
