import { expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";

it("SIGHUP takes over DHCP settings and log level, names what needs a restart, and survives a broken file", {
  timeout: 60_000,
}, async () => {
  await using node = await AgentNode.create();
  await node.adopt("--subnet", "10.99.0.0/24");
  const file = node.path("config.yaml");
  const reserve = (address: string): string =>
    `  reservations: [{ mac: "${guest.mac}", address: ${address} }]\n`;
  await node.write("config.yaml", "dhcp: { coolDown: 0s }\ndaemon: { sessionTtl: 30s }\n");
  node.env.COCOON_NET_CONFIG = file;
  const daemon = await node.daemon();
  const guest = await node.guest();

  await node.write(
    "config.yaml",
    `logLevel: warn\ndaemon: { sessionTtl: 20s }\nadopt: { dns: 9.9.9.9 }\ndhcp:\n  limits: { total: { perSecond: 9, burst: 9 } }\n${reserve("10.99.0.77")}`,
  );
  daemon.signal("SIGHUP");
  await daemon.says("only a restart takes them over");
  const line = daemon.output.split("\n").find((text) => text.includes("only a restart")) ?? "{}";
  expect((JSON.parse(line) as { settings: string[] }).settings.toSorted()).toEqual([
    "daemon.sessionTtl",
    "dhcp.limits",
  ]);
  expect(await guest.boot()).toBe("10.99.0.77");
  expect(daemon.output).not.toContain("lease granted");

  const broken = {
    "dhcp: [": "is not YAML",
    "dhcp: { lease: 1h }": "dhcp",
    [`dhcp:\n${reserve("10.1.1.1")}`]: "not in subnet",
  };
  for (const [text, why] of Object.entries(broken)) {
    await node.write("config.yaml", text);
    const since = daemon.output.length;
    daemon.signal("SIGHUP");
    await daemon.says(/config file not taken over: .*/, since);
    expect(daemon.output.slice(since)).toContain(why);
  }
  expect(await guest.renew()).toBe("10.99.0.77");
  await node.write("config.yaml", "logLevel: debug\n");
  daemon.signal("SIGHUP");
  await daemon.says("config file read again");
  expect(await daemon.kill()).toBe("exit code 0");
});
