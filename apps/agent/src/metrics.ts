import { createServer } from "node:http";
import { InvalidError } from "@cocoon-net/core";
import { Counter, Gauge, Registry } from "prom-client";
import type { Logger } from "./log.ts";

export interface MetricSource {
  readonly grants: () => { readonly ok: number; readonly failed: number };
  readonly available: () => number;
  readonly active: () => number;
  readonly mirrorLag?: () => number;
  /** 1 while the store confirms that the subnet is ours. */
  readonly owned?: () => number;
}

/** The agent's metrics; the first three keep the names of the program it takes over from. */
export function createMetrics(source: MetricSource): Registry {
  const registry = new Registry();
  const registers = [registry];
  new Counter({
    name: "cocoon_net_dhcp_lease_total",
    help: "Grant attempts by result.",
    labelNames: ["result"],
    registers,
    collect() {
      const { ok, failed } = source.grants();
      this.reset();
      this.inc({ result: "ok" }, ok);
      this.inc({ result: "failed" }, failed);
    },
  });
  gauge("cocoon_net_dhcp_pool_available", "Addresses that can be granted now.", source.available);
  gauge("cocoon_net_dhcp_lease_active", "Live leases.", source.active);
  if (source.mirrorLag)
    gauge("cocoon_net_mirror_pending", "Addresses not yet mirrored to the store.", source.mirrorLag);
  if (source.owned)
    gauge("cocoon_net_subnet_owned", "1 while the store confirms this node's subnet.", source.owned);
  return registry;

  function gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }
}

/**
 * Serves `/metrics` and `/healthz` until disposed. A server that cannot listen is logged and never stops the
 * daemon. @throws {InvalidError} for an address that is none.
 */
export function serveMetrics(address: string, registry: Registry, log: Logger): AsyncDisposable {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    throw new InvalidError(`metrics address "${address}" is not host:port or :port`);
  }
  const host = match[1] || match[2] || undefined;
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    if (path === "/healthz") {
      response.end("ok\n");
    } else if (path === "/metrics") {
      registry.metrics().then(
        (text) => response.setHeader("content-type", registry.contentType).end(text),
        (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
      );
    } else {
      response.writeHead(404).end("not found; there are /metrics and /healthz\n");
    }
  });
  server.on("error", (error) =>
    log.error({ err: error, address }, "metrics cannot be served; going on without"),
  );
  server.listen({ port, host });
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
