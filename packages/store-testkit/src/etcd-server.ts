import { freePort } from "./free-port.ts";
import { findBinary, startServer, type TestServer, type TestServerOptions } from "./server-process.ts";

export interface EtcdOptions extends TestServerOptions {
  /** Default a free one. */
  readonly peerPort?: number;
}

/**
 * Starts a single etcd and resolves when it serves. `binary` defaults to the environment's `ETCD_BIN`,
 * then to `etcd` in PATH.
 * @throws {NotFoundError} when there is no etcd. {@link UnavailableError} when it does not serve in time.
 */
export async function startEtcd(options: EtcdOptions = {}): Promise<TestServer> {
  const binary = findBinary(
    options.binary ?? process.env.ETCD_BIN ?? "etcd",
    "apt-get install etcd-server, or set ETCD_BIN to its path",
  );
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  const client = `http://${host}:${port}`;
  const peer = `http://${host}:${options.peerPort ?? (await freePort(host))}`;
  return startServer({
    name: "etcd",
    binary,
    host,
    port,
    dataDir: options.dataDir,
    startTimeoutMs: options.startTimeoutMs ?? 20_000,
    args: (dataDir) => [
      ...["--name", "default", "--data-dir", dataDir, "--logger", "zap"],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `default=${peer}`],
      ...(options.extraArgs ?? []),
    ],
    async serves() {
      const answer = await fetch(`${client}/health`, { signal: AbortSignal.timeout(1_000) });
      return answer.ok && /"health":\s*"?true/.test(await answer.text());
    },
  });
}
