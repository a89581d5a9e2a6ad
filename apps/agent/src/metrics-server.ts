import { createServer } from "node:http";
import { InvalidError } from "@cocoon-net/core";
import type { Logger } from "./log.ts";

export interface ListenAddress {
  readonly host: string | undefined;
  readonly port: number;
}

/** `host:port` or `:port`. @throws {InvalidError} */
export function parseListenAddress(address: string): ListenAddress {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    throw new InvalidError(`metrics address "${address}" is not host:port or :port`);
  }
  return { host: match[1] || match[2] || undefined, port };
}

/**
 * Serves `/metrics` and `/healthz` until disposed. A server that cannot listen is logged and never stops the daemon.
 */
export function serveMetrics(address: ListenAddress, render: () => string, log: Logger): AsyncDisposable {
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    const [status, body] =
      request.method !== "GET" && request.method !== "HEAD"
        ? [405, "only GET\n"]
        : path === "/metrics"
          ? [200, render()]
          : path === "/healthz"
            ? [200, "ok\n"]
            : [404, "there are /metrics and /healthz\n"];
    response.writeHead(status, {
      "content-type": "text/plain; version=0.0.4; charset=utf-8",
      "content-length": Buffer.byteLength(body),
      ...(status === 405 ? { allow: "GET, HEAD" } : {}),
    });
    response.end(body);
  });
  server.on("error", (error) =>
    log.error({ err: error, ...address }, "metrics cannot be served; going on without"),
  );
  server.listen(address);
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
