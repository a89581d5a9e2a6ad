import { rename, writeFile } from "node:fs/promises";
import { DisposeStack } from "@cocoon-net/core";
import { expect, it } from "vitest";
import type { AgentNode } from "./support/agent-node.ts";
import { Running, until } from "./support/command.ts";
import { Hub } from "./support/hub.ts";

interface Entry {
  readonly mac: string;
  readonly ip: string;
  readonly expiry: string;
}

const first: Entry = { mac: "52:54:00:00:01:01", ip: "172.20.0.7", expiry: inHours(20) };
const second: Entry = { mac: "52:54:00:00:01:02", ip: "172.20.0.8", expiry: inHours(21) };

function inHours(hours: number): string {
  return new Date(Date.now() + hours * 3_600_000).toISOString().replace(/\.\d+Z$/, "Z");
}

/** Writes the file as the program before this one does: a temporary file beside it, then rename. */
async function write(node: AgentNode, text: string): Promise<void> {
  await writeFile(node.path("leases.json.tmp"), text);
  await rename(node.path("leases.json.tmp"), node.path("leases.json"));
}

it("follows the leases of a DHCP server beside it, and takes no silence for an end (G8)", {
  timeout: 180_000,
}, async () => {
  await using parts = new DisposeStack();
  const hub = parts.use(await Hub.create());
  const url = await hub.call("startServer", "etcd");
  const node = await hub.node();
  await node.adopt("--store", url, "--parent-cidr", "172.20.0.0/16");
  // The other program serves DHCP and holds the pid file; neither is in the way.
  const pid = ["--pid-file", node.path("sync.pid")];
  const source = [
    "--lease-source",
    `file:${node.path("leases.json")}`,
    "--store",
    url,
    "--session-ttl",
    "3s",
  ];
  const server = `require("node:dgram").createSocket("udp4").bind(67, "0.0.0.0", () => console.log("has port 67"))`;
  parts.use(await other(node, server));
  const stored = async (): Promise<string[]> =>
    Object.entries(await hub.call("list", "pool/")).map(
      ([key, value]) => `${key} ${(JSON.parse(value) as Entry).mac}`,
    );
  const holds = (...entries: readonly Entry[]): Promise<true> =>
    until(`the store to hold ${entries.map(({ ip }) => ip)}`, async () => {
      const wanted = entries.map(({ ip, mac }) => `pool/${ip} ${mac}`);
      return JSON.stringify(await stored()) === JSON.stringify(wanted);
    });

  const daemon = await node.daemon(...source, ...pid);
  await daemon.says("the subnet is ours");
  await daemon.says("does not exist");
  await write(node, JSON.stringify([first, second], null, 2));
  await holds(first, second);
  await until("its record to say where its leases are from", async () => {
    const record = JSON.parse((await hub.call("list", "nodes/"))["nodes/n1"] ?? "{}") as {
      leaseSource?: string;
    };
    return record.leaseSource === source[1];
  });
  expect(await node.do("status", "--state-dir", node.path("state"))).toContain("cannot be stopped from here");
  const renewed = { ...second, expiry: inHours(24) };
  await write(node, JSON.stringify([first, renewed]));
  await until("the renewal in the store", async () => {
    const value = (await hub.call("list", "pool/"))[`pool/${second.ip}`] ?? "{}";
    return Date.parse((JSON.parse(value) as Entry).expiry) === Date.parse(renewed.expiry);
  });

  // Half written, an entry that does not parse, gone: nothing is freed.
  const since = daemon.output.length;
  await write(node, JSON.stringify([first]).slice(0, -5));
  await daemon.says("is not JSON", since);
  await write(node, JSON.stringify([first, { ip: second.ip }]));
  await rename(node.path("leases.json"), node.path("gone.json"));
  await daemon.says("does not exist", since);
  await holds(first, second);

  // Also not by a restart that never sees the file.
  await daemon.kill();
  const again = await node.daemon(...source, ...pid);
  await again.says("the subnet is ours");
  await again.says('"differences":0');
  await holds(first, second);

  // What ended meanwhile ends in the store once the file says so, also over a restart.
  await write(node, JSON.stringify([renewed]));
  await holds(second);
  await again.kill();
  await write(node, JSON.stringify([first]));
  await (await node.daemon(...source, ...pid)).says("the subnet is ours");
  await holds(first);
});

async function other(node: AgentNode, script: string): Promise<AsyncDisposable> {
  const running = new Running("the other server", [
    ...node.namespace.enter,
    process.execPath,
    "-e",
    script,
    "cocoon-net",
    "daemon",
  ]);
  await running.says("has port 67");
  await writeFile(node.path("daemon.pid"), `${running.pid}\n`);
  return running;
}
