import { readFileSync } from "node:fs";
import { DisposeStack } from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import { Etcd3 } from "etcd3";
import { Redis } from "ioredis";
import { cpuMsOf } from "./process-usage.ts";
import type { StoreKind, Target } from "./target.ts";

/** What the server has used and done since it was started. */
export interface Usage {
  /** Processor time, in milliseconds. */
  readonly cpuMs: number;
  /** What it has sent to its disk. */
  readonly diskBytes: number;
  /** etcd: revisions. Redis: commands, those inside scripts included. */
  readonly operations: number;
}

/** A real server on loopback, set up as the store's README says. Each figure gets a fresh one. */
export interface BenchServer extends AsyncDisposable {
  readonly process: TestServer;
  /** `side` keeps what this project writes from what the raw client does. */
  target(side: string): Target;
  usage(): Promise<Usage>;
}

export async function startServer(kind: StoreKind): Promise<BenchServer> {
  await using stack = new DisposeStack();
  const server = stack.use(
    kind === "etcd"
      ? await startEtcd({ extraArgs: ["--quota-backend-bytes", "8589934592"] })
      : await startRedis({ appendonly: true, appendfsync: "always" }),
  );
  const operations = kind === "etcd" ? etcdRevision(server, stack) : redisCommands(server, stack);
  const held = stack.move();
  return {
    process: server,
    target: (side) => ({ kind, host: server.host, port: server.port, prefix: `/bench-${side}` }),
    usage: async () => ({ ...processUsage(server.pid), operations: await operations() }),
    [Symbol.asyncDispose]: () => held[Symbol.asyncDispose](),
  };
}

export function difference(before: Usage, after: Usage): Usage {
  return {
    cpuMs: after.cpuMs - before.cpuMs,
    diskBytes: after.diskBytes - before.diskBytes,
    operations: after.operations - before.operations,
  };
}

function etcdRevision({ host, port }: TestServer, stack: DisposeStack): () => Promise<number> {
  const client = new Etcd3({ hosts: `http://${host}:${port}` });
  stack.defer(() => client.close());
  return async () => Number((await client.kv.range({ key: Buffer.from("none") })).header.revision);
}

function redisCommands({ host, port }: TestServer, stack: DisposeStack): () => Promise<number> {
  const client = new Redis({ host, port, protocol: 2 });
  client.on("error", () => {});
  stack.defer(() => client.disconnect());
  return async () => Number(/total_commands_processed:(\d+)/.exec(await client.info("stats"))?.[1] ?? 0);
}

/** proc(5): `io` needs the right to trace the process. */
function processUsage(pid: number | undefined): Pick<Usage, "cpuMs" | "diskBytes"> {
  if (pid === undefined) return { cpuMs: 0, diskBytes: 0 };
  const io = readFileSync(`/proc/${pid}/io`, "utf8");
  return { cpuMs: cpuMsOf(pid), diskBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0) };
}
