import { execFile } from "node:child_process";
import { promisify } from "node:util";
import {
  FencedError,
  heartbeat,
  initCluster,
  overlaps,
  parseCidr,
  Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, type TestServer, until, within } from "@cocoon-net/store-testkit";
import { expect, it } from "vitest";
import { eventsOf, incarnationIn, ownersIn, requestOf } from "./cluster-fixture.ts";
import { WindowClock } from "./recovery-rules.ts";
import { lastingTtlMs, patienceMs } from "./rule.ts";

const recoveryMs = 2_000;

/** A primary, its replica, the way between them, and a way for clients that can be turned to either. */
async function startPair(parts: AsyncDisposableStack) {
  const primary = parts.use(await startRedis({ appendonly: true }));
  const link = parts.use(await startFaultProxy({ target: primary }));
  const replicaof = ["--replicaof", "127.0.0.1", String(link.port)];
  const extraArgs = [...replicaof, "--repl-diskless-sync-delay", "0"];
  const replica = parts.use(await startRedis({ appendonly: true, extraArgs }));
  const target = { host: primary.host, port: primary.port };
  const path = parts.use(await startFaultProxy({ target }));
  return { primary, replica, link, target, path };
}

async function redisCli(server: TestServer, ...command: string[]): Promise<string> {
  return (await promisify(execFile)("redis-cli", ["-p", String(server.port), ...command])).stdout;
}

/** How far its history goes. */
async function offset(server: TestServer): Promise<number> {
  const info = await redisCli(server, "info", "replication");
  return Number(/(?:slave_repl|master_repl)_offset:(\d+)/.exec(info)?.[1]);
}

/** Living nodes: each keeps its heart beating, and what it was told. */
class Nodes implements AsyncDisposable {
  readonly registrations: Registration[] = [];
  readonly unsure = new Map<string, number>();
  readonly failures: unknown[] = [];
  readonly #stop = new AbortController();
  readonly #beats: Promise<void>[] = [];

  live(store: Store, registration: Registration): void {
    this.registrations.push(registration);
    const { node } = registration;
    const beat = heartbeat(store, registration, {
      ttlMs: lastingTtlMs,
      signal: this.#stop.signal,
      onOwned: () => {},
      onUnsure: () => void this.unsure.set(node, (this.unsure.get(node) ?? 0) + 1),
    });
    this.#beats.push(beat.catch((error: unknown) => void this.failures.push(error)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#beats);
  }
}

async function registerAll(
  stores: readonly Store[],
  nodes: readonly string[],
  clock: WindowClock,
): Promise<Registration[]> {
  const registries = stores.map((store) => new Registry(store, { monotonic: clock.now }));
  return Promise.all(
    nodes.map(async (node, i) => {
      const registry = registries[i % registries.length];
      if (!registry) throw new Error("no store");
      return registry.register(requestOf(node), { timeoutMs: patienceMs, maxWaitMs: patienceMs });
    }),
  );
}

const names = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}-${i}`);

function expectDisjoint(registrations: readonly Registration[]): void {
  const blocks = registrations.map(({ subnet }) => parseCidr(subnet)).sort((a, b) => a.base - b.base);
  for (const [i, block] of blocks.entries()) {
    const next = blocks[i + 1];
    if (next) expect(overlaps(block, next)).toBe(false);
  }
}

it("600 nodes keep what a failover of Redis has lost of them, and 100 new ones get something else", {
  timeout: 240_000,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const { primary, replica, link, target, path } = await startPair(parts);
  const open = async (): Promise<Store> =>
    parts.use(await openRedisStore(`redis://127.0.0.1:${path.port}/failover?wait=0`));
  const [first, second] = [await open(), await open()];
  await initCluster(first, { parentCIDR: "10.0.0.0/14", platform: "test", recoveryMs });
  await using nodes = new Nodes();
  const clock = new WindowClock();
  for (const registration of await registerAll([first, second], names("early", 500), clock)) {
    nodes.live(first, registration);
  }
  const registered = await offset(primary);
  await until("the replica to have all of it", patienceMs, async () => (await offset(replica)) >= registered);
  await link.blackhole();
  const known = (await ownersIn(first)).size;
  const late = await registerAll([first, second], names("late", 101), clock);
  // All of this is acknowledged, and about to be lost.
  expect((await ownersIn(first)).size).toBe(known + 101);
  const [sleeper, ...others] = late;
  if (!sleeper) throw new Error("nobody sleeps");
  for (const registration of others) nodes.live(second, registration);
  const before = new Map(nodes.registrations.map(({ node, subnet }) => [node, subnet]));

  await primary.stop("SIGKILL");
  await redisCli(replica, "replicaof", "no", "one");
  target.port = replica.port;
  path.cut();
  const newcomers = await open();
  const joining = registerAll([newcomers], names("new", 99), clock);
  await until("everybody to have said again what it owns", 2 * patienceMs, async () => {
    const { id, recovering } = await incarnationIn(newcomers);
    return recovering && nodes.registrations.every(({ incarnation }) => incarnation === id);
  });
  expect(nodes.failures).toEqual([]);
  clock.run();
  const joined = await within("the new nodes", patienceMs, joining);
  expect(clock.now()).toBeGreaterThanOrEqual(recoveryMs);
  expect((await incarnationIn(newcomers)).recovering).toBe(false);
  // What a node has lost that is away is free: somebody has got it, or gets it who asks for it.
  const lost = joined.some(({ subnet }) => subnet === sleeper.subnet) ? undefined : sleeper.subnet;
  joined.push(await new Registry(newcomers).register(requestOf("heir", lost)));
  const owners = await ownersIn(newcomers);
  for (const [node, subnet] of before) expect(owners.get(node)).toBe(subnet);
  expect(owners.size).toBe(700);
  expectDisjoint([...nodes.registrations, ...joined]);
  expect(await eventsOf(newcomers, "late-1")).toEqual(["node-reasserted"]);
  expect(await eventsOf(newcomers, "early-1")).toEqual(["node-registered"]);

  // The one that was away for the whole window finds that its subnet has gone.
  const { node, uid, subnet, epoch, incarnation, config } = sleeper;
  const awake = new Registration(newcomers, { node, uid, subnet, epoch, incarnation, config });
  await expect(awake.confirm()).rejects.toThrow(FencedError);
  expect(await eventsOf(newcomers, node)).toEqual(["ownership-conflict"]);
  for (const registration of joined) await registration.verify();
});

it("a restart that loses nothing costs no guest anything, and no node its subnet", {
  timeout: 120_000,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const server = parts.use(await startRedis({ appendonly: true, appendfsync: "always" }));
  const store = parts.use(await openRedisStore(`redis://127.0.0.1:${server.port}/restart`));
  await initCluster(store, { parentCIDR: "10.0.0.0/16", platform: "test", recoveryMs: 2_000 });
  await using nodes = new Nodes();
  const clock = new WindowClock();
  for (const node of await registerAll([store], names("n", 20), clock)) nodes.live(store, node);
  const epochs = nodes.registrations.map(({ epoch }) => epoch);
  const { id } = await incarnationIn(store);
  await server.restart("SIGKILL");
  await until("everybody to have noticed", patienceMs, () =>
    nodes.registrations.every(({ incarnation }) => incarnation !== id),
  );
  clock.run();
  await until("the end of the window", patienceMs, async () => !(await incarnationIn(store)).recovering);
  expect(nodes.registrations.map(({ epoch }) => epoch)).toEqual(epochs);
  expect(nodes.failures).toEqual([]);
  // Their sessions outlive the restart, so not even a new grant had to wait.
  expect(nodes.unsure.size).toBe(0);
});
