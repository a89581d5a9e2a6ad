import { DisposeStack } from "@cocoon-net/core";
import { freePort, startRedis, type TestServer, until } from "@cocoon-net/store-testkit";
import { redisCli } from "./redis-cli.ts";
import { replicasConfirm } from "./replica-confirms.ts";

/** Three masters, and a replica of the one that owns the prefix `/cocoon-net`. */
export interface ClusterSet extends AsyncDisposable {
  readonly masters: readonly TestServer[];
  /** The owner at the start, and its replica. */
  readonly pair: readonly [TestServer, TestServer];
  /** The store URL up to the prefix, which starts with a slash. */
  readonly url: string;
  /** The one of `pair` that owns the prefix now, as the other nodes see it. */
  owner(): Promise<TestServer>;
  /** Resolves when the other of `pair` follows the owner. */
  complete(): Promise<void>;
}

export async function startCluster(): Promise<ClusterSet> {
  await using started = new DisposeStack();
  const start = async () =>
    started.use(
      await startRedis({
        appendonly: true,
        extraArgs: [
          ...["--cluster-enabled", "yes", "--cluster-port", String(await freePort())],
          ...["--cluster-announce-ip", "127.0.0.1", "--cluster-node-timeout", "2000"],
          ...["--repl-diskless-sync-delay", "0"],
        ],
      }),
    );
  const masters = [await start(), await start(), await start()];
  const replica = await start();
  const nodes = [...masters, replica];
  const ranges = [
    [0, 5_460],
    [5_461, 10_922],
    [10_923, 16_383],
  ] as const;
  const [seed = replica, ...others] = nodes;
  for (const [at, range] of ranges.entries()) {
    await redisCli(masters[at] ?? seed, "cluster", "addslotsrange", ...range.map(String));
  }
  for (const [at, node] of nodes.entries()) {
    await redisCli(node, "cluster", "set-config-epoch", String(at + 1));
  }
  for (const node of others) {
    const bus = await busPort(node);
    await redisCli(seed, "cluster", "meet", "127.0.0.1", String(node.port), bus);
  }
  for (const node of nodes) {
    await until("the nodes to know each other", 30_000, async () => {
      const info = await redisCli(node, "cluster", "info");
      return info.includes("cluster_known_nodes:4") && info.includes("cluster_state:ok");
    });
  }
  const slot = Number(await redisCli(seed, "cluster", "keyslot", "/cocoon-net"));
  const at = ranges.findIndex(([first, last]) => first <= slot && slot <= last);
  const first = masters[at] ?? seed;
  await redisCli(replica, "cluster", "replicate", await redisCli(first, "cluster", "myid"));
  const pair = [first, replica] as const;
  const watcher = masters.find((node) => node !== first) ?? seed;
  const owner = (): Promise<TestServer> =>
    until("an owner", 30_000, async () => {
      const lines = (await redisCli(watcher, "cluster", "nodes")).split("\n");
      const server = pair.find((node) =>
        lines.some(
          (line) =>
            line.includes(`127.0.0.1:${node.port}@`) &&
            /\bmaster\b/.test(line) &&
            !/fail/.test(line) &&
            / \d+-\d+/.test(line),
        ),
      );
      return server;
    });
  const set: ClusterSet = {
    masters,
    pair,
    url: `redis+cluster://${masters.map((node) => `127.0.0.1:${node.port}`).join(",")}`,
    owner,
    complete: async () => {
      const current = await owner();
      await until("the owner's replica", 30_000, async () =>
        (await redisCli(current, "info", "replication")).includes("state=online"),
      );
      await replicasConfirm(current, 1, "{/cocoon-net}probe");
      for (const node of nodes) {
        await until("the cluster to be in order", 30_000, async () =>
          (await redisCli(node, "cluster", "info")).includes("cluster_state:ok"),
        );
      }
    },
    [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
  };
  await set.complete();
  const parts = started.move();
  return set;
}

async function busPort(node: TestServer): Promise<string> {
  return (await redisCli(node, "config", "get", "cluster-port")).split("\n")[1] ?? "";
}
