import { expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";
import { until } from "./support/command.ts";

it("SIGHUP takes over DHCP settings and log level, names what needs a restart, and survives a broken file", {
  timeout: 180_000,
}, async () => {
  await using node = await AgentNode.create();
  await node.adopt("--subnet", "10.99.0.0/24");
  const file = node.path("config.yaml");
  const reserve = (address: string, { mac } = guest): string =>
    `  reservations: [{ mac: "${mac}", address: ${address} }]\n`;
  await node.write("config.yaml", "dhcp: { coolDown: 0s }\ndaemon: { sessionTtl: 30s }\n");
  node.env.COCOON_NET_CONFIG = file;
  const daemon = await node.daemon();
  const guest = await node.guest();

  const limits = "  limits: { total: { perSecond: 0.001, burst: 1 } }\n";
  await node.write(
    "config.yaml",
    `logLevel: warn\ndaemon: { sessionTtl: 20s }\nadopt: { dns: 9.9.9.9 }\ndhcp:\n${limits}${reserve("10.99.0.77")}`,
  );
  daemon.signal("SIGHUP");
  await daemon.says("only a restart takes them over");
  const line = daemon.output.split("\n").find((text) => text.includes("only a restart")) ?? "{}";
  expect((JSON.parse(line) as { settings: string[] }).settings.toSorted()).toEqual(["daemon.sessionTtl"]);
  expect(await guest.boot()).toBe("10.99.0.77");
  expect(daemon.output).not.toContain("lease granted");
  const second = await node.guest();
  const booting = second.boot();
  await until("the limit to count", async () =>
    /^cocoon_net_dhcp_dropped_total\{reason="flood-total"\} [1-9]/m.test(await node.metrics()),
  );

  const broken = {
    "dhcp: [": "is not YAML",
    "dhcp: { lease: 1h }": "dhcp",
    [`# ours\ndhcp:\n${reserve("10.1.1.1")}`]: `${file}:2: reservation for ${guest.mac} (10.1.1.1) is not in subnet`,
  };
  for (const [text, why] of Object.entries(broken)) {
    await node.write("config.yaml", text);
    const since = daemon.output.length;
    daemon.signal("SIGHUP");
    await daemon.says(/config file not taken over: .*/, since);
    expect(daemon.output.slice(since)).toContain(why);
  }
  expect(await guest.renew()).toBe("10.99.0.77");
  await guest.release();
  await guest.squatOn("10.99.0.77");
  const third = await node.guest();
  await node.write(
    "config.yaml",
    `logLevel: debug\ndhcp:\n  coolDown: 0s\n  probe: false\n${reserve("10.99.0.77", third)}`,
  );
  daemon.signal("SIGHUP");
  await daemon.says("config file read again");
  expect(await third.boot()).toBe("10.99.0.77");
  expect(await booting).toMatch(/^10\.99\.0\./);
  expect(await daemon.kill()).toBe("exit code 0");
});
