import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DisposeStack } from "@cocoon-net/core";
import { freePort, startRedis, type TestServer, until } from "@cocoon-net/store-testkit";
import { redisCli } from "./redis-cli.ts";
import { replicasConfirm } from "./replica-confirms.ts";

/** A primary, two replicas, and three sentinels that call the primary `m`. */
export interface SentinelSet extends AsyncDisposable {
  readonly servers: readonly TestServer[];
  /** The store URL up to the prefix, which starts with a slash. */
  readonly url: string;
  /** The server that the sentinels hold for the primary, once it says so itself. */
  primary(): Promise<TestServer>;
  /** Resolves when two replicas follow the primary, and the sentinels know them. */
  complete(): Promise<void>;
}

/** Long enough for a busy machine not to look dead. */
const downAfterMs = 2_000;

export async function startSentinelSet(): Promise<SentinelSet> {
  await using started = new DisposeStack();
  const shared = ["--repl-diskless-sync-delay", "0"];
  const first = started.use(await startRedis({ appendonly: true, extraArgs: shared }));
  const servers = [first];
  for (let count = 0; count < 2; count += 1) {
    const extraArgs = [...shared, "--replicaof", "127.0.0.1", String(first.port)];
    servers.push(started.use(await startRedis({ appendonly: true, extraArgs })));
  }
  const ports: number[] = [];
  for (let count = 0; count < 3; count += 1) {
    ports.push(started.use(await startSentinel(first.port)).port);
  }
  const [asked = 0] = ports;
  const primary = (): Promise<TestServer> =>
    until("a primary", 30_000, async () => {
      const [, port] = (await redisCli({ port: asked }, "sentinel", "get-master-addr-by-name", "m")).split(
        "\n",
      );
      const server = servers.find((candidate) => String(candidate.port) === port);
      if (server === undefined) return undefined;
      const role = (await redisCli(server, "role")).split("\n")[0];
      return role === "master" ? server : undefined;
    });
  const set: SentinelSet = {
    servers,
    url: `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(",")}/m`,
    primary,
    complete: async () => {
      const current = await primary();
      await until("two replicas", 30_000, async () => {
        const online = (await redisCli(current, "info", "replication")).match(/state=online/g) ?? [];
        return online.length === 2;
      });
      await replicasConfirm(current, 2, "probe");
      for (const port of ports) {
        await until(`sentinel ${port} to know all`, 30_000, async () => {
          const known = await redisCli({ port }, "sentinel", "master", "m");
          return /num-slaves\n2\n/.test(known) && /num-other-sentinels\n2\n/.test(known);
        });
      }
    },
    [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
  };
  await set.complete();
  const parts = started.move();
  return set;
}

async function startSentinel(primaryPort: number): Promise<AsyncDisposable & { readonly port: number }> {
  const directory = mkdtempSync(join(tmpdir(), "sentinel-"));
  const port = await freePort();
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${directory}`,
    `sentinel monitor m 127.0.0.1 ${primaryPort} 2`,
    `sentinel down-after-milliseconds m ${downAfterMs}`,
    "sentinel failover-timeout m 3000",
  ];
  const file = join(directory, "sentinel.conf");
  writeFileSync(file, `${lines.join("\n")}\n`);
  const child: ChildProcess = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
  const kill = () => child.kill("SIGKILL");
  process.on("exit", kill);
  const stop = async () => {
    process.off("exit", kill);
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      kill();
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
