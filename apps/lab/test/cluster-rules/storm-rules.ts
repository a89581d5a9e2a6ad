import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { keys, overlaps, parseCidr, prefixes, Registry, type Store } from "@cocoon-net/core";
import { within } from "@cocoon-net/store-testkit";
import { expect } from "vitest";
import { contentsOf, openCluster, ownersIn, requestOf } from "./cluster-fixture.ts";
import { countTxns } from "./intercepted-store.ts";
import type { Rule } from "./rule.ts";
import type { MemberOrder, MemberResult } from "./storm-member.ts";

export function stormRules(rule: Rule, url: ((prefix: string) => string) | undefined): void {
  rule("200 nodes over four handles register at once", async (bench) => {
    const store = await openCluster(bench);
    const count = { transactions: 0 };
    const handles = [store, await bench.open(), await bench.open(), await bench.open()].map(
      (handle) => new Registry(countTxns(handle, count)),
    );
    const started = performance.now();
    const nodes = Array.from({ length: 200 }, (_, i) => `node-${i}`);
    await Promise.all(nodes.map((node, i) => handles[i % handles.length]?.register(requestOf(node))));
    report("200 nodes, 256 slots", performance.now() - started, count.transactions, 200);
    await expectDistinct(store, 200);
    expect(count.transactions).toBeLessThan(200 * 8);
  });

  rule("as many nodes as slots register at once, and one more is told", async (bench) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/18", reserved: ["10.64.7.0/24"] });
    const count = { transactions: 0 };
    const registry = new Registry(countTxns(store, count));
    const started = performance.now();
    await Promise.all(Array.from({ length: 63 }, (_, i) => registry.register(requestOf(`node-${i}`))));
    report("63 nodes, 63 slots", performance.now() - started, count.transactions, 63);
    await expectDistinct(store, 63);
    await expect(registry.register(requestOf("late"))).rejects.toMatchObject({ code: "exhausted" });
  });

  rule("100 nodes register at once where 100 slots of 4,096 are left", async (bench) => {
    const store = await openCluster(bench, { parentCIDR: "10.64.0.0/12" });
    await fill(store, 4_096 - 100);
    const count = { transactions: 0 };
    const registry = new Registry(countTxns(store, count));
    const started = performance.now();
    await Promise.all(Array.from({ length: 100 }, (_, i) => registry.register(requestOf(`node-${i}`))));
    report("100 nodes, 100 of 4,096 slots free", performance.now() - started, count.transactions, 100);
    await expectDistinct(store, 100);
  });

  if (!url) return;
  rule("four processes with 50 nodes each register at once", async (bench) => {
    const store = await openCluster(bench);
    const results = await runMembers(url(bench.prefix));
    const ms = Math.max(...results.map((result) => result.ms));
    const transactions = results.reduce((sum, result) => sum + result.transactions, 0);
    report("4 processes of 50 nodes, 256 slots", ms, transactions, 200);
    await expectDistinct(store, 200);
    expect(new Set(results.flatMap(({ subnets }) => subnets)).size).toBe(200);
    expect(ms).toBeLessThan(5_000);
  });
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

/** Takes the lowest slots of 10.64.0.0/12 for a node that is not there. */
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
      20_000,
      Promise.all(members.map((member) => once(member, "message"))),
    );
    const answers = members.map(async (member, i) => {
      const answer = once(member, "message");
      member.send({ first: i * 50, count: 50 } satisfies MemberOrder);
      const [result] = (await answer) as [MemberResult];
      return result;
    });
    return await within("the registrations", 20_000, Promise.all(answers));
  } finally {
    for (const member of members) member.kill("SIGKILL");
  }
}

function report(what: string, ms: number, transactions: number, nodes: number): void {
  console.log(`${what}: ${Math.round(ms)} ms, ${(transactions / nodes).toFixed(1)} transactions per node`);
}
