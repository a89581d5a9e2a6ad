import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRedisStore } from "@cocoon-net/store-redis";
import { freePort, startRedis, until } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";
import { Watched } from "./watched.ts";

describe("a Redis Cluster", () => {
  it("takes every operation, since all keys of a cluster share one slot", async () => {
    const bus = String(await freePort());
    await using server = await startRedis({
      appendonly: true,
      extraArgs: ["--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1"],
    });
    await redisCli(server, "cluster", "addslotsrange", "0", "16383");
    await until("the cluster", 15_000, async () =>
      (await redisCli(server, "cluster", "info")).includes("cluster_state:ok"),
    );
    await using store = await openRedisStore(`redis+cluster://127.0.0.1:${server.port}/cocoon-net`);
    assert.equal(store.capabilities.linearizable, false);
    await using log = new Watched(store, "");
    await using session = await store.session(2_000);
    const { succeeded } = await store.txn({
      if: [{ key: "slots/a", exists: false }],
      then: [
        { put: "slots/a", value: "{}" },
        { put: "subnets/n1", value: '"a"' },
        { put: "alive/n1", value: "{}", session },
      ],
    });
    assert.equal(succeeded, true);
    await log.until("the changes", 5_000, (state) => state.size === 3);
    assert.equal((await store.list("")).entries.length, 3);
    await session[Symbol.asyncDispose]();
    await log.until("the end of the session", 5_000, (state) => state.size === 2);
    assert.match(await store.incarnation(), /\/[0-9a-f]{40}$/);
  });
});

describe("Redis behind Sentinel", () => {
  it("is followed to the new primary after a failover, in a new incarnation", async () => {
    await using primary = await startRedis({ appendonly: true });
    const replicaOf = ["--replicaof", "127.0.0.1", String(primary.port), "--repl-diskless-sync-delay", "0"];
    await redisCli(primary, "config", "set", "repl-diskless-sync-delay", "0");
    await using replica = await startRedis({ appendonly: true, extraArgs: replicaOf });
    await using sentinel = await startSentinel(primary.port);
    await until("the sentinel to know the replica", 20_000, async () =>
      (await redisCli(sentinel, "sentinel", "master", "m")).includes("num-slaves\n1\n"),
    );
    await until("the replica to have synchronised", 20_000, async () =>
      (await redisCli(replica, "info", "replication")).includes("master_link_status:up"),
    );
    await using store = await openRedisStore(`redis+sentinel://127.0.0.1:${sentinel.port}/m/cocoon-net`);
    assert.match(store.capabilities.durability, /replicas: 1,/);
    await using log = new Watched(store, "w/");
    await store.txn({ then: [{ put: "w/before", value: "1" }] });
    await log.until("the first change", 5_000, (state) => state.has("w/before"));
    const before = await store.incarnation();
    await until(
      "the replica to have it",
      5_000,
      async () => (await redisCli(replica, "hget", "/cocoon-net", "w/before")) === "1",
    );
    await redisCli(sentinel, "sentinel", "failover", "m");
    await until("the new primary", 20_000, async () =>
      (await redisCli(replica, "info", "replication")).includes("role:master"),
    );
    await until("a write to it", 20_000, async () => {
      await store.txn({ then: [{ put: "w/after", value: "2" }] });
      return (await redisCli(replica, "hget", "/cocoon-net", "w/after")) === "2";
    });
    await log.until("the change after it", 20_000, (state) => state.size === 2);
    assert.notEqual(await store.incarnation(), before);
  });
});

async function startSentinel(primaryPort: number): Promise<AsyncDisposable & { readonly port: number }> {
  const directory = mkdtempSync(join(tmpdir(), "sentinel-"));
  const port = await freePort();
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${directory}`,
    `sentinel monitor m 127.0.0.1 ${primaryPort} 1`,
    "sentinel down-after-milliseconds m 1000",
    "sentinel failover-timeout m 5000",
  ];
  const file = join(directory, "sentinel.conf");
  writeFileSync(file, `${lines.join("\n")}\n`);
  const child: ChildProcess = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await until("the sentinel", 20_000, async () => (await redisCli({ port }, "ping")) === "PONG");
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, [Symbol.asyncDispose]: stop };
}
