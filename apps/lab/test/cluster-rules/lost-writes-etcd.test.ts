import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  CopyTarget,
  heartbeat,
  initCluster,
  keys,
  listAll,
  type RawConfig,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, type TestServer, until } from "@cocoon-net/store-testkit";
import { expect, it } from "vitest";
import { incarnationIn, leaseOf, ownersIn, requestOf } from "./cluster-fixture.ts";
import { WindowClock } from "./recovery-rules.ts";
import { patienceMs } from "./rule.ts";

/** Hearts that beat, and what the nodes were told since the last look. */
class Nodes implements AsyncDisposable {
  readonly said = new Map<string, string[]>();
  readonly problems: unknown[] = [];
  readonly #stop = new AbortController();
  readonly #beats: Promise<void>[] = [];

  live(store: Store, registration: Registration): void {
    const said: string[] = [];
    this.said.set(registration.node, said);
    this.#beats.push(
      heartbeat(store, registration, {
        ttlMs: 2_000,
        signal: this.#stop.signal,
        onOwned: () => void said.push("owned"),
        onUnsure: () => void said.push("unsure"),
        onProblem: (error) => void this.problems.push(error),
      }),
    );
  }

  async allSay(what: string): Promise<void> {
    await until(`all to be ${what}`, patienceMs, () =>
      [...this.said.values()].every((said) => said.at(-1) === what),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#beats);
  }
}

async function wipe(server: TestServer): Promise<void> {
  for (const name of await readdir(server.dataDir)) await rm(join(server.dataDir, name), { recursive: true });
}

it("an etcd that comes back without its data costs no node its subnet, and is filled from a file", {
  timeout: 180_000,
}, async () => {
  await using server = await startEtcd();
  const url = `etcd://127.0.0.1:${server.port}/wiped`;
  await using store = await openEtcdStore(url);
  const clock = new WindowClock();
  const registry = new Registry(store, { monotonic: clock.now });
  await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test", recoveryMs: 2_000 });
  await using nodes = new Nodes();
  const early = await registry.register(requestOf("early"));
  const { entries } = await listAll(store, "");
  const late = await registry.register(requestOf("late"));
  for (const registration of [early, late]) nodes.live(store, registration);
  await nodes.allSay("owned");

  await server.stop("SIGKILL");
  await wipe(server);
  await server.start();
  await nodes.allSay("unsure");
  await until("the nodes to say why", patienceMs, () =>
    nodes.problems.some(
      (error) => error instanceof Error && /is empty, but this node belongs to cluster/.test(error.message),
    ),
  );
  await expect(late.mirror([["10.64.1.9", leaseOf("late")]])).rejects.toMatchObject({ code: "conflict" });

  // A handle of its own, to which the server says what it always said.
  await using other = await openEtcdStore(url);
  const config = entries.find(({ key }) => key === keys.config)?.value ?? "";
  const target = await CopyTarget.open(other, { label: "a file", config: JSON.parse(config) as RawConfig });
  await target.reconcile(entries);
  await target.commission();
  // It waits for those that live, however late they hear that the data is back.
  const joining = new Registry(other, { monotonic: clock.now }).register(requestOf("new"), {
    maxWaitMs: patienceMs,
  });
  await nodes.allSay("owned");
  clock.run();
  const joined = await joining;
  expect(await ownersIn(other)).toEqual(
    new Map([early, late, joined].map(({ node, subnet }) => [node, subnet])),
  );
  expect(joined.subnet).toBe("10.64.2.0/24");
});

it("an etcd that restarts with its data opens no window", { timeout: 120_000 }, async () => {
  await using server = await startEtcd();
  await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/restarted`);
  await initCluster(store, { parentCIDR: "10.64.0.0/16", platform: "test" });
  const before = await incarnationIn(store);
  await using nodes = new Nodes();
  const a = await new Registry(store).register(requestOf("a"));
  nodes.live(store, a);
  await nodes.allSay("owned");
  await server.restart("SIGKILL");
  await until("the store to answer", patienceMs, () => store.get(keys.config).then(() => true));
  expect((await new Registry(store).register(requestOf("b"))).subnet).toBe("10.64.1.0/24");
  await a.verify();
  expect(await incarnationIn(store)).toEqual(before);
});
