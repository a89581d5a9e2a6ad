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
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end("only GET\n");
    } else if (path === "/metrics") {
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(render());
    } else if (path === "/healthz") {
      response.end("ok\n");
    } else {
      response.writeHead(404).end("there are /metrics and /healthz\n");
    }
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
