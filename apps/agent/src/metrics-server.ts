import { createServer } from "./http-server.ts";
import type { ListenAddress } from "./listen-address.ts";
import type { Logger } from "./log.ts";

export interface Pages {
  /** Prometheus's text format. */
  readonly metrics: () => string;
  /** Why the node is not ready, one line each; empty when it is. */
  readonly notReady: () => readonly string[];
}

/**
 * Serves `/metrics`, `/healthz` (the process lives) and `/readyz` (a new guest would be served; else 503 and why) until
 * disposed. A server that cannot listen is logged and never stops the daemon.
 */
export function serveMetrics(address: ListenAddress, pages: Pages, log: Logger): AsyncDisposable {
  const server = createServer((request, response) => {
    const [status, body] =
      request.method !== "GET" && request.method !== "HEAD"
        ? ([405, "only GET\n"] as const)
        : page(request.url?.split("?")[0], pages);
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

function page(path: string | undefined, pages: Pages): readonly [status: number, body: string] {
  if (path === "/metrics") return [200, pages.metrics()];
  if (path === "/healthz") return [200, "ok\n"];
  if (path !== "/readyz") return [404, "there are /metrics, /healthz and /readyz\n"];
  const reasons = pages.notReady();
  return reasons.length === 0 ? [200, "ok\n"] : [503, `${reasons.join("\n")}\n`];
}
