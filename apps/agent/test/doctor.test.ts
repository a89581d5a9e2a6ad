import { expect, it } from "vitest";
import type { Diagnosis } from "../src/doctor/diagnosis.ts";
import { Hub } from "./support/hub.ts";

type States = Record<string, string>;

it("the doctor finds a good node good, and of a broken one what is broken and what to do", {
  timeout: 180_000,
}, async () => {
  await using hub = await Hub.create();
  const url = await hub.call("startServer", "redis");
  const node = await hub.node();
  const state = ["--state-dir", node.path("state"), "--pid-file", node.path("daemon.pid")];
  const store = ["--store", url, "--parent-cidr", "10.64.0.0/16"];
  const look = async (
    ...args: string[]
  ): Promise<{ code: number | string; states: States; all: Diagnosis[] }> => {
    const { code, stdout } = await node.run("doctor", ...state, "-o", "json", ...args);
    const all = JSON.parse(stdout) as Diagnosis[];
    return { code, all, states: Object.fromEntries(all.map(({ check, state }) => [check, state])) };
  };

  // Nothing is set up yet: nothing is wrong either.
  const fresh = await look("--store", url);
  expect(fresh.states).toMatchObject({ node: "warning", rights: "ok", kernel: "ok", bridge: "warning" });
  expect(fresh.all.find(({ check }) => check === "cluster")).toMatchObject({
    state: "problem",
    fix: expect.stringContaining("cluster init"),
  });

  await node.adopt(...store, "--node-name", "n-1");
  const daemon = await node.daemon("--store", url);
  await daemon.says("the subnet is ours");
  const good = await look("--store", url);
  expect(good.all.filter(({ state }) => state === "problem")).toEqual([]);
  expect(good.code).toBe(0);
  expect(good.states).toMatchObject({
    ...{ node: "ok", daemon: "ok", bridge: "ok", sysctls: "ok", "DHCP port": "ok" },
    ...{ cluster: "ok", "metrics port": "ok" },
  });
  // Both are measured: on a busy machine they may be slow, and nothing else.
  for (const check of ["disk", "store"]) {
    const { state, fix } = good.all.find((one) => one.check === check) ?? {};
    if (state !== "ok")
      expect(fix).toMatch(/^(guests wait that long; use a faster disk|use a store that is nearer)$/);
  }
  const table = await node.do("doctor", ...state, "--store", url);
  expect(table).toMatch(/^ok +node +n-1: 253 addresses of 10\.64\.0\.0\/24\n/);

  await node.namespace.exec("sysctl", "-qw", "net.ipv4.ip_forward=0");
  await node.namespace.ip("link", "set", "cni0", "down");
  await hub.call("stopServer", "SIGTERM");
  const broken = await look("--store", url);
  expect(broken.code).toBe(1);
  expect(broken.states).toMatchObject({
    node: "ok",
    bridge: "warning",
    sysctls: "problem",
    store: "problem",
  });
  expect(broken.all.find(({ check }) => check === "sysctls")?.found).toMatch(
    /net\.ipv4\.ip_forward is 0, not 1/,
  );

  await daemon.kill();
  await node.write("state/pool.json", "{");
  const { code, stderr } = await node.run("doctor", ...state);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^cocoon-net: \d+ of \d+ checks found a problem\n$/);
});
