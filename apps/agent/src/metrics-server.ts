import { createServer, type Socket } from "node:net";
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

const idleMs = 10_000;
const maxRequestBytes = 8_192;

/**
 * Serves `/metrics` and `/healthz` until disposed. A server that cannot listen is logged and never stops the daemon.
 * It speaks just enough HTTP/1.1 for that (one request per connection): loading `node:http` for two GETs would make
 * every node's daemon 13 MB larger.
 */
export function serveMetrics(address: ListenAddress, render: () => string, log: Logger): AsyncDisposable {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    // A scraper that goes away is no event.
    socket.on("error", () => socket.destroy());
    socket.setTimeout(idleMs, () => socket.destroy());
    let request = "";
    socket.setEncoding("latin1").on("data", (text) => {
      request += text;
      if (request.includes("\r\n\r\n")) socket.end(answer(request, render));
      else if (request.length > maxRequestBytes) socket.destroy();
    });
  });
  server.on("error", (error) =>
    log.error({ err: error, ...address }, "metrics cannot be served; going on without"),
  );
  server.listen(address);
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

function answer(request: string, render: () => string): string {
  const [, method = "", path = ""] = /^(\S+) ([^?\s]*)\S* HTTP\/1\.[01]\r\n/.exec(request) ?? [];
  const [status, body] =
    method === ""
      ? ["400 Bad Request", "this is no HTTP/1.1 request\n"]
      : method !== "GET" && method !== "HEAD"
        ? ["405 Method Not Allowed", "only GET\n"]
        : path === "/metrics"
          ? ["200 OK", render()]
          : path === "/healthz"
            ? ["200 OK", "ok\n"]
            : ["404 Not Found", "there are /metrics and /healthz\n"];
  const head = [
    `HTTP/1.1 ${status}`,
    "Content-Type: text/plain; version=0.0.4; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(status.startsWith("405") ? ["Allow: GET, HEAD"] : []),
    "Connection: close",
  ];
  return `${head.join("\r\n")}\r\n\r\n${method === "HEAD" ? "" : body}`;
}
