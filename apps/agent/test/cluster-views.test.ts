import {
  decode,
  initCluster,
  keys,
  nodeSchema,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { startEtcd, type TestServer } from "@cocoon-net/store-testkit/servers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { openStore } from "../src/drivers.ts";
import type { Screen } from "../src/live-screen.ts";
import { runCommand } from "./support/run-command.ts";

let server: TestServer;
let store: Store;
let url: string;
let a: Registration;

const soon = (ms: number): string => new Date(Date.now() + ms).toISOString();
const lease = (node: string, more: object = {}) => ({
  ...{ node, mac: "02:00:00:00:00:01", expiry: soon(3_600_000), seq: 1, ...more },
});

beforeAll(async () => {
  server = await startEtcd();
  url = `etcd://127.0.0.1:${server.port}/views`;
  store = await openStore(url);
  await initCluster(store, { parentCIDR: "10.0.0.0/16", platform: "volcengine" });
  const registry = new Registry(store);
  a = await registry.register({ node: "a", uid: "i-a", agentVersion: "1.0.0" });
  const b = await registry.register({ node: "b", uid: "i-b", agentVersion: "1.0.0" });
  await a.update({ pool: { size: 140, leased: 2, free: 138 } });
  await a.mirror([
    ["10.0.0.5", lease("a", { vmID: "vm-1", hostname: "web" })],
    ["10.0.0.9", lease("a", { expiry: soon(-60_000) })],
  ]);
  await b.mirror([["10.0.1.7", lease("b", { vmID: "vm-2" })]]);
}, 180_000);
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const show = async (...args: string[]): Promise<string> => {
  const { out, failure } = await runCommand(["cluster", ...args, "--store", url]);
  expect(failure).toBeUndefined();
  return out.join("\n");
};
const json = async (...args: string[]): Promise<unknown> => JSON.parse(await show(...args, "-o", "json"));
const refusal = async (...args: string[]): Promise<string | undefined> =>
  (await runCommand(["cluster", ...args, "--store", url])).failure;

it("explains one address: owner, since when, lease, history", async () => {
  expect(await json("ip", "10.0.0.5")).toMatchObject({
    address: "10.0.0.5",
    slot: "10.0.0.0/24",
    node: "a",
    uid: "i-a",
    since: expect.stringMatching(/^\d{4}-/),
    lease: { vmID: "vm-1", mac: "02:00:00:00:00:01" },
    quarantine: null,
    events: [{ type: "node-registered", node: "a", subnet: "10.0.0.0/24" }],
  });
  const text = await show("ip", "10.0.0.5");
  expect(text).toMatch(/^Node: +a, ready \(silent\), since \d{4}-.* ago\)$/m);
  expect(text).toMatch(/^Lease: +02:00:00:00:00:01, web, VM vm-1, on a, ends in (1h|59m\d*s?)$/m);
  expect(text).toContain("node-registered");
  const moved = { home: "a", subnet: "10.0.0.0/24", node: "b", uid: "i-b", mac: "02:00:00:00:00:01", seq: 1 };
  const event = { time: soon(0), type: "move-finished", node: "b", ip: "10.0.0.5", message: "b serves it" };
  await store.txn({
    then: [
      { put: keys.moved("10.0.0.5"), value: JSON.stringify(moved) },
      { put: keys.event("9000000000000000-x"), value: JSON.stringify(event) },
    ],
  });
  expect(await show("ip", "10.0.0.5")).toMatch(
    /^Moved: +b serves it, its home is a\n[\s\S]*move-finished +b +- +b serves/m,
  );
  expect(await show("ip", "10.0.0.6")).not.toMatch(/Moved:|move-finished/);
  await store.txn({
    then: [{ delete: keys.moved("10.0.0.5") }, { delete: keys.event("9000000000000000-x") }],
  });
  expect(await show("ip", "10.0.77.1")).toMatch(/^Subnet: +10\.0\.77\.0\/24, no node's\nLease: +none$/m);
  expect(await refusal("ip", "10.1.0.1")).toMatch(/10\.1\.0\.1 is outside the cluster's 10\.0\.0\.0\/16/);
  expect(await refusal("ip", "10.0.0.400")).toMatch(/"10\.0\.0\.400"/);
});

it("finds a VM's addresses, and says so when it has none", async () => {
  expect(await json("vm", "vm-2")).toMatchObject([{ address: "10.0.1.7", node: "b" }]);
  expect(await refusal("vm", "vm-9")).toMatch(/no lease in .* is of a VM "vm-9"/);
});

it("draws a subnet with one cell an address, by node or by CIDR", async () => {
  const text = await show("subnet", "a");
  expect(text).toMatch(/^Subnet: +10\.0\.0\.0\/24$/m);
  expect(text).toMatch(/^Use: +\[-{40}\] 1 % of 140: 1 leased, 138 free$/m);
  const map = text.split("\n").filter((line) => /^10\.0\.0\.\d+ /.test(line));
  expect(map).toHaveLength(8);
  expect(map[0]).toBe(`10.0.0.0     ${"....#...x"}${".".repeat(22)}`);
  expect(map[7]).toBe(`10.0.0.224  ${".".repeat(31)}`);
  expect((await show("subnet", "10.0.0.0/24")).split("\n").slice(3)).toEqual(text.split("\n").slice(3));
  expect(await refusal("subnet", "10.0.9.0/24")).toMatch(/no node has the subnet 10\.0\.9\.0\/24/);
  expect(await refusal("subnet", "z")).toMatch(/there is no node "z"/);
  for (const view of ["leases", "events"]) {
    expect(await refusal(view, "--node", "z")).toMatch(/there is no node "z"/);
  }
});

it("filters by node, status, subnet and VM, and names a filter that cannot be", async () => {
  expect(await json("nodes", "--node", "b")).toMatchObject([{ node: "b" }]);
  expect(await json("nodes", "--status", "suspect")).toEqual([]);
  expect(await json("nodes", "--subnet", "10.0.1.0/24")).toMatchObject([{ node: "b" }]);
  expect(await json("subnets", "--node", "a")).toMatchObject([{ slot: "10.0.0.0/24" }]);
  expect(await json("subnets", "--status", "quarantine")).toEqual([]);
  expect(await json("leases", "--subnet", "10.0.0.8/29")).toMatchObject([{ address: "10.0.0.9" }]);
  expect(await json("leases", "--vm", "vm-1")).toMatchObject([{ address: "10.0.0.5" }]);
  expect(await json("events", "--subnet", "10.0.1.0/24")).toMatchObject([{ node: "b" }]);
  expect(await refusal("nodes", "--node", "z")).toMatch(
    /^there is no node "z" in .*; `cocoon-net cluster nodes`/,
  );
  expect(await refusal("nodes", "--status", "gone")).toMatch(/--status.*"gone" is not one of ready, suspect/);
  expect(await refusal("leases", "--subnet", "10.0.0.1/8")).toMatch(/--subnet.*10\.0\.0\.1\/8/);
});

it("with --watch prints the view again when it has changed, and ends well", {
  timeout: 180_000,
}, async () => {
  const stop = new AbortController();
  const lines: string[] = [];
  const documents: string[] = [];
  const running = [
    runCommand(["cluster", "leases", "--node", "a", "-w", "-o", "json", "--store", url], {
      ...{ signal: stop.signal, out: lines },
    }),
    runCommand(["cluster", "leases", "--node", "a", "-w", "-o", "yaml", "--store", url], {
      ...{ signal: stop.signal, out: documents },
    }),
  ];
  await expect.poll(() => [lines.length, documents.length], { timeout: 60_000 }).toEqual([1, 1]);
  await a.mirror([["10.0.0.200", lease("a")]]);
  await expect.poll(() => [lines.length, documents.length], { timeout: 60_000 }).toEqual([2, 2]);
  await a.mirror([["10.0.0.200", undefined]]);
  await expect.poll(() => lines.length, { timeout: 60_000 }).toBe(3);
  stop.abort();
  for (const { failure } of await Promise.all(running)) expect(failure).toBeUndefined();
  expect(lines.map((line) => (JSON.parse(line) as unknown[]).length)).toEqual([2, 3, 2]);
  expect(parseAllDocuments(documents.join("\n")).length).toBe(documents.length);
});

it("counts nothing of a node that has left, and names who leads", async () => {
  const left = {
    uid: "i-c",
    status: "left",
    lastSeen: soon(0),
    subnet: "10.0.2.0/24",
    agentVersion: "1.0.0",
  };
  const value = JSON.stringify({ ...left, pool: { size: 50, leased: 7, free: 43 } });
  const leader = JSON.stringify({ id: "controller-a", session: "1" });
  await store.txn({
    then: [
      { put: keys.node("c"), value },
      { put: keys.leader, value: leader },
      {
        put: keys.controller,
        value: JSON.stringify({ id: "controller-a", time: soon(0), held: "7 of 9 nodes are silent" }),
      },
    ],
  });
  const stop = new AbortController();
  const out: string[] = [];
  const running = runCommand(["cluster", "watch", "--store", url], { signal: stop.signal, out });
  await expect.poll(() => out.join("\n"), { timeout: 10_000 }).toMatch(/^Controller: controller-a leads$/m);
  stop.abort();
  await running;
  expect(out.join("\n")).toMatch(/^Addresses: {2}2 leased of 140$/m);
  expect(out.join("\n")).toMatch(/^Reclaim: {4}held: 7 of 9 nodes are silent$/m);
  expect(await show("nodes")).toMatch(/^c +left +- +7\/50 /m);
  await store.txn({
    then: [{ delete: keys.node("c") }, { delete: keys.leader }, { delete: keys.controller }],
  });
});

it("draws the cluster on a terminal, never more than fits, and leaves it as it was", {
  timeout: 180_000,
}, async () => {
  const stop = new AbortController();
  const writes: string[] = [];
  const screen: Screen = { columns: 40, rows: 8, write: (text) => void writes.push(text) };
  const running = runCommand(["cluster", "watch", "--store", url], { signal: stop.signal, screen });
  const frames = (): string[] => writes.join("").split("\x1b[H").slice(1);
  await expect.poll(() => frames().length, { timeout: 60_000 }).toBeGreaterThan(0);
  const { entry } = await store.get(keys.node("b"));
  if (entry === undefined) throw new Error("there is no node b");
  const suspect = { ...decode(nodeSchema, entry), status: "suspect" };
  await store.txn({ then: [{ put: keys.node("b"), value: JSON.stringify(suspect) }] });
  await expect.poll(() => frames().at(-1), { timeout: 60_000 }).toContain("1 suspect");
  stop.abort();
  expect((await running).failure).toBeUndefined();
  expect([writes.at(0), writes.at(-1)]).toEqual(["\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"]);
  for (const frame of frames()) {
    const rows = frame.replaceAll("\x1b[K", "").split("\x1b[J")[0]?.split("\r\n") ?? [];
    expect(rows).toHaveLength(8);
    expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(40);
    expect(rows.at(-2)).toMatch(/^… \d+ more lines$/);
  }
});
