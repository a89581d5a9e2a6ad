import { once } from "node:events";
import { connect } from "node:net";
import { freePort } from "./free-port.ts";
import { findBinary, startServer, type TestServer, type TestServerOptions } from "./server-process.ts";
import { within } from "./waiting.ts";

export interface RedisOptions extends TestServerOptions {
  /** Keep an append-only file, so that data outlives a restart; default false. */
  readonly appendonly?: boolean;
  /** When the append-only file reaches the disk; default `everysec`. */
  readonly appendfsync?: "always" | "everysec" | "no";
}

/**
 * Starts a single Redis (or Valkey, by `binary`) and resolves when it serves. `binary` defaults to the
 * environment's `REDIS_BIN`, then to `redis-server` in PATH. It takes no snapshots.
 * @throws {NotFoundError} when there is no Redis. {@link UnavailableError} when it does not serve in time.
 */
export async function startRedis(options: RedisOptions = {}): Promise<TestServer> {
  const binary = findBinary(
    options.binary ?? process.env.REDIS_BIN ?? "redis-server",
    "apt-get install redis-server, or set REDIS_BIN to its path",
  );
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  return startServer({
    name: "redis",
    binary,
    host,
    port,
    dataDir: options.dataDir,
    startTimeoutMs: options.startTimeoutMs ?? 20_000,
    args: (dataDir) => [
      ...["--bind", host, "--port", String(port), "--protected-mode", "no"],
      ...["--dir", dataDir, "--save", "", "--appendonly", options.appendonly === true ? "yes" : "no"],
      ...["--appendfsync", options.appendfsync ?? "everysec"],
      ...(options.extraArgs ?? []),
    ],
    serves: () => answersPing(host, port),
  });
}

/** A server that asks for a password serves too; one that is loading its data does not yet. */
async function answersPing(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port });
  try {
    socket.write("PING\r\n");
    const [answer] = await within("PING", 1_000, once(socket, "data"));
    return /^(\+PONG|-NOAUTH)/.test(String(answer));
  } finally {
    socket.destroy();
  }
}
