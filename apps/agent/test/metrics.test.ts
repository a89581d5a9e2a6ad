import { randomInt } from "node:crypto";
import { createController } from "@cocoon-net/controller";
import { expect, it } from "vitest";
import { CloudCallTimes } from "../src/cloud-calls.ts";
import { renderControllerMetrics } from "../src/controller-metrics.ts";
import { openStore } from "../src/drivers.ts";
import { parseListenAddress } from "../src/listen-address.ts";
import { createLogger } from "../src/log.ts";
import { renderMetrics } from "../src/metrics.ts";
import { type Pages, serveMetrics } from "../src/metrics-server.ts";
import { reasonsNotReady } from "../src/readiness.ts";

const log = createLogger({ COCOON_NET_LOG_LEVEL: "silent" });

/** Of a loopback address that nobody else uses: there a port that is free remains so. */
function freeAddress(): string {
  const [a, b, c] = [randomInt(1, 255), randomInt(256), randomInt(1, 255)];
  return `127.${a}.${b}.${c}:${randomInt(20_000, 32_768)}`;
}

const pagesOf = (text: string): Pages => ({ metrics: () => text, notReady: () => [] });

it("metrics are in the text format, under the names of the program before", () => {
  const source = { grants: () => ({ ok: 3, failed: 1 }), available: () => 7, active: () => 3 };
  expect(renderMetrics(source)).toBe(`# HELP cocoon_net_dhcp_lease_total Grant attempts by result.
# TYPE cocoon_net_dhcp_lease_total counter
cocoon_net_dhcp_lease_total{result="ok"} 3
cocoon_net_dhcp_lease_total{result="failed"} 1
# HELP cocoon_net_dhcp_pool_available Addresses that can be granted now.
# TYPE cocoon_net_dhcp_pool_available gauge
cocoon_net_dhcp_pool_available 7
# HELP cocoon_net_dhcp_lease_active Live leases.
# TYPE cocoon_net_dhcp_lease_active gauge
cocoon_net_dhcp_lease_active 3
`);
  const link = () => ({ state: "owned", mirrorLag: 2 }) as const;
  expect(renderMetrics({ ...source, link })).toContain("\ncocoon_net_mirror_pending 2\n");
  expect(renderMetrics({ ...source, link })).toContain("\ncocoon_net_subnet_owned 1\n");
});

it("a node says why a new guest would get no address", () => {
  const well = { received: {}, sent: {}, dropped: {}, grants: { ok: 0, failed: 0 } };
  const counts = {
    free: 1,
    offered: 0,
    leased: 0,
    cooling: 0,
    declined: 0,
    reserved: 0,
    pool: 1,
    outside: 0,
  };
  const journal = {
    records: 0,
    syncs: 0,
    compactions: 0,
    bytes: 0,
    failing: undefined,
    compactionFailing: undefined,
  };
  const stats = { ...well, pool: counts, journal };
  expect(reasonsNotReady({ stats, link: "owned", draining: false })).toEqual([]);
  expect(reasonsNotReady({ stats: undefined, link: undefined, draining: false })).toEqual([]);
  expect(reasonsNotReady({ stats, link: "unsure", draining: true })).toHaveLength(2);
  expect(reasonsNotReady({ stats, link: "lost", draining: false })[0]).toMatch(/another node/);
  const full = { ...stats, pool: { ...counts, free: 0 }, journal: { ...journal, failing: "ENOSPC" } };
  expect(reasonsNotReady({ stats: full, link: "owned", draining: false })).toEqual([
    "leases cannot be made durable: ENOSPC",
    "no address of the pool is free",
  ]);
});

it("the metrics server answers what it has, refuses the rest, and lets go when it ends", async () => {
  const address = freeAddress();
  const at = `http://${address}`;
  let reasons: string[] = [];
  await using server = serveMetrics(
    parseListenAddress(address),
    { metrics: () => "up 1\n", notReady: () => reasons },
    log,
  );
  const metrics = await fetch(`${at}/metrics?x=1`);
  expect([metrics.status, await metrics.text()]).toEqual([200, "up 1\n"]);
  expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await (await fetch(`${at}/healthz`)).text()).toBe("ok\n");
  expect((await fetch(`${at}/readyz`)).status).toBe(200);
  reasons = ["one", "two"];
  const unready = await fetch(`${at}/readyz`);
  expect([unready.status, await unready.text()]).toEqual([503, "one\ntwo\n"]);
  expect((await fetch(`${at}/`)).status).toBe(404);
  expect((await fetch(`${at}/metrics`, { method: "POST", body: "x" })).status).toBe(405);
  const head = await fetch(`${at}/metrics`, { method: "HEAD" });
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "5", ""]);
  await server[Symbol.asyncDispose]();
  await expect(fetch(`${at}/metrics`)).rejects.toThrow();
});

it("a metrics address that is taken is told and does no harm", async () => {
  const address = freeAddress();
  await using _first = serveMetrics(parseListenAddress(address), pagesOf("first 1\n"), log);
  await fetch(`http://${address}/metrics`);
  const lines: string[] = [];
  const told = { error: (_: unknown, text: string) => lines.push(text) } as unknown as typeof log;
  await using _second = serveMetrics(parseListenAddress(address), pagesOf("second 1\n"), told);
  await expect.poll(() => lines).toEqual(["metrics cannot be served; going on without"]);
  expect(await (await fetch(`http://${address}/metrics`)).text()).toBe("first 1\n");
});

it("a metrics address is host:port or :port", () => {
  expect(parseListenAddress(":9092")).toEqual({ host: undefined, port: 9092 });
  expect(parseListenAddress("[::1]:9092")).toEqual({ host: "::1", port: 9092 });
  for (const text of ["9092", "a:b", "127.0.0.1:70000", "::1:9092"]) {
    expect(() => parseListenAddress(text)).toThrow(`"${text}" is not host:port`);
  }
});

it("a controller's metrics, with its requests to clouds by action and result", async () => {
  await using store = await openStore("memory:");
  await using running = createController({
    store,
    id: "a",
    cloudFor: () => Promise.reject(new Error("none")),
  });
  const times = new CloudCallTimes();
  const call = {
    platform: "gke",
    action: "instances.get",
    result: "ok",
    tookMs: 80,
    waitedMs: 2_000,
  } as const;
  for (const one of [call, { ...call, tookMs: 20 }, { ...call, result: "throttled" } as const]) {
    running.countCloudCall(one);
    times.add(one);
  }
  const text = renderControllerMetrics(running.metrics()) + times.render();
  for (const line of [
    "cocoon_net_controller_leading 0",
    'cocoon_net_slots{state="free"} 0',
    'cocoon_net_reclaim_seconds_bucket{le="+Inf"} 0',
    "cocoon_net_reclaim_seconds_count 0",
    'cocoon_net_cloud_requests_total{platform="gke",action="instances.get",result="ok"} 2',
    'cocoon_net_cloud_request_seconds_bucket{platform="gke",action="instances.get",result="ok",le="0.05"} 1',
    'cocoon_net_cloud_request_seconds_bucket{platform="gke",action="instances.get",result="ok",le="0.1"} 2',
    'cocoon_net_cloud_request_seconds_sum{platform="gke",action="instances.get",result="ok"} 0.1',
    'cocoon_net_cloud_budget_wait_seconds_sum{platform="gke",action="instances.get"} 6',
  ]) {
    expect(text).toContain(`\n${line}\n`);
  }
  const sample = /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [\d.]+)$/;
  expect(
    text
      .trimEnd()
      .split("\n")
      .filter((line) => !sample.test(line)),
  ).toEqual([]);
});
