import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import {
  candidateSlots,
  formatCidr,
  keys,
  overlaps,
  parseCidr,
  prefixes,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { within } from "@cocoon-net/store-testkit";
import { expect } from "vitest";
import { contentsOf, openCluster, ownersIn, requestOf } from "./cluster-fixture.ts";
import { beforeWriting, countTxns } from "./intercepted-store.ts";
import { patienceMs, type Rule } from "./rule.ts";
import type { MemberOrder, MemberResult } from "./storm-member.ts";

export function stormRules(rule: Rule, url: ((prefix: string) => string) | undefined): void {
  // Catalogue 2. Guard: packages/core/src/claim-choice.ts, claimSome: a slot that is taken is no end, the next one is
  // tried.
  rule("200 nodes over four handles register at once", async (bench, expect) => {
    const first = await openCluster(bench);
    const others = [await bench.open(), await bench.open(), await bench.open()];
    expect(await storm("200 nodes, 256 slots", [first, ...others], 200)).toBeLessThan(6);
  });

  rule("as many nodes as slots register at once, and one more is told", async (bench, expect) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/18", reserved: ["10.64.7.0/24"] });
    expect(await storm("63 nodes, 63 slots", [store], 63)).toBeLessThan(8);
    await expect(new Registry(store).register(requestOf("late"))).rejects.toMatchObject({
      code: "exhausted",
    });
  });

  rule("50 nodes register at once where 50 slots of 1,024 are left", async (bench, expect) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/14" });
    await fill(store, 1_024 - 50);
    expect(await storm("50 nodes, 50 of 1,024 slots free", [store], 50)).toBeLessThan(8);
  });

  rule(
    "of nodes that have looked together one gets the lowest slot, the others at once another",
    async (bench, expect) => {
      const store = await openCluster(bench);
      await new Registry(store).register(requestOf("older"));
      const count = { transactions: 0 };
      let first = "";
      // It comes as far as its first claim while the other stands before it.
      const racing = beforeWriting(countTxns(store, count), keys.subnet("late"), async () => {
        first = (await new Registry(store).register(requestOf("early"))).subnet;
      });
      const { subnet, config } = await new Registry(racing).register(requestOf("late"));
      expect(first).toBe("10.64.1.0/24");
      const layout = { parent: parseCidr(config.parentCIDR), nodePrefix: config.nodePrefix };
      expect(subnet).toBe(formatCidr(candidateSlots(layout, "late").next().value ?? layout.parent));
      expect(count.transactions).toBe(2);
      expect((await new Registry(store).register(requestOf("alone"))).subnet).toBe("10.64.2.0/24");
    },
  );

  if (!url) return;
  rule("four processes with 50 nodes each register at once", async (bench, expect) => {
    const store = await openCluster(bench);
    const results = await runMembers(url(bench.prefix));
    const ms = Math.max(...results.map((result) => result.ms));
    const transactions = results.reduce((sum, result) => sum + result.transactions, 0);
    report("4 processes of 50 nodes, 256 slots", ms, transactions / 200);
    await expectDistinct(store, 200);
    expect(new Set(results.flatMap(({ subnets }) => subnets)).size).toBe(200);
    expect(transactions / 200).toBeLessThan(6);
  });
}

/** Registers that many nodes at once, and answers how many transactions each has taken. */
async function storm(what: string, stores: readonly [Store, ...Store[]], nodes: number): Promise<number> {
  const count = { transactions: 0 };
  const registries = stores.map((store) => new Registry(countTxns(store, count)));
  const started = performance.now();
  await Promise.all(
    Array.from({ length: nodes }, (_, i) => registries[i % stores.length]?.register(requestOf(`node-${i}`))),
  );
  report(what, performance.now() - started, count.transactions / nodes);
  await expectDistinct(stores[0], nodes);
  return count.transactions / nodes;
}

async function expectDistinct(store: Store, count: number): Promise<void> {
  const subnets = [...(await ownersIn(store)).values()].map((text) => parseCidr(text));
  expect(subnets).toHaveLength(count);
  for (const [i, a] of subnets.entries()) {
    for (const b of subnets.slice(i + 1)) expect(overlaps(a, b)).toBe(false);
  }
  const slots = Object.keys(await contentsOf(store, prefixes.slots));
  expect(slots.length).toBeGreaterThanOrEqual(count);
}

/** Takes the lowest slots of 10.64.0.0/14 for a node that is not there. */
async function fill(store: Store, slots: number): Promise<void> {
  for (let start = 0; start < slots; start += 100) {
    await store.txn({
      then: Array.from({ length: Math.min(100, slots - start) }, (_, i) => ({
        put: keys.slot(`10.${64 + ((start + i) >> 8)}.${(start + i) & 255}.0/24`),
        value: JSON.stringify({ node: "filler", uid: "filler" }),
      })),
    });
  }
}

async function runMembers(url: string): Promise<MemberResult[]> {
  const program = fileURLToPath(new URL("storm-member.ts", import.meta.url));
  const members = Array.from({ length: 4 }, () =>
    fork(program, [url], {
      execArgv: ["--conditions=@cocoon-net/source"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    }),
  );
  try {
    await within(
      "the processes' start",
      patienceMs,
      Promise.all(members.map((member) => once(member, "message"))),
    );
    const answers = members.map(async (member, i) => {
      const answer = once(member, "message");
      member.send({ first: i * 50, count: 50 } satisfies MemberOrder);
      const [result] = (await answer) as [MemberResult];
      return result;
    });
    return await within("the registrations", patienceMs, Promise.all(answers));
  } finally {
    for (const member of members) member.kill("SIGKILL");
  }
}

function report(what: string, ms: number, perNode: number): void {
  console.log(`${what}: ${Math.round(ms)} ms, ${perNode.toFixed(1)} transactions per node`);
}
