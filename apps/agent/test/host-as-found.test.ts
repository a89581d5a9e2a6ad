import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";

const subnet = ["--subnet", "10.99.0.0/24", "--drop-cidr", "192.168.0.0/16", "--drop-internal-access"];

/** What is plugged in, where packets go, what the kernel is set to, every rule of both backends, every file. */
async function dump(node: AgentNode, ...without: readonly string[]): Promise<string> {
  const { namespace } = node;
  const kernel = await Promise.all([
    namespace.ip("-j", "link"),
    namespace.ip("-j", "address"),
    namespace.ip("-j", "route", "show", "table", "all"),
    namespace.exec("iptables-nft-save"),
    namespace.exec("iptables-legacy-save"),
    namespace.exec("sysctl", "-a", "-r", "^net.ipv4.(ip_forward|conf.*rp_filter)$"),
  ]);
  const files: string[] = [];
  for (const name of (await readdir(node.directory, { recursive: true })).sort()) {
    const { mtimeMs, mode } = await stat(node.path(name));
    if ((await stat(node.path(name))).isFile() && !without.some((one) => name.endsWith(one))) {
      files.push(`${name} ${mode.toString(8)} ${mtimeMs} ${await readFile(node.path(name), "utf8")}`);
    }
  }
  return [...kernel.map((text) => text.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, "")), ...files].join("\n");
}

/** A node whose `iptables` is the given one, with rules and files of others. */
async function withOthers(iptables: string): Promise<AgentNode> {
  const node = await AgentNode.create();
  await mkdir(node.path("bin"));
  await symlink(`/usr/sbin/${iptables}`, node.path("bin/iptables"));
  node.env.PATH = `${node.path("bin")}:${process.env.PATH}`;
  for (const rule of [
    ["-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"],
    ["-A", "FORWARD", "-d", "10.4.0.0/16", "-m", "comment", "--comment", "not ours", "-j", "DROP"],
    ["-t", "nat", "-A", "POSTROUTING", "-s", "10.244.0.0/16", "-j", "MASQUERADE"],
    // As ours, but it was there before.
    ["-A", "FORWARD", "-i", "cni0", "-o", "cni0", "-j", "ACCEPT"],
  ]) {
    await node.namespace.exec(iptables, ...rule);
  }
  await writeFile(node.path("30-cocoon-dhcp.conflist"), `{"name": "somebody's"}`);
  for (const name of ["all", "default"]) {
    await node.namespace.exec("sysctl", "-w", `net.ipv4.conf.${name}.rp_filter=0`);
  }
  await node.namespace.exec("sysctl", "-w", "net.ipv4.ip_forward=1");
  return node;
}

const files = (node: AgentNode): string[] => [
  ...["--state-dir", node.path("state"), "--pid-file", node.path("daemon.pid")],
  ...["--lease-file", node.path("leases.json")],
];

describe.each(["iptables-nft", "iptables-legacy"])("with %s", { timeout: 180_000 }, (iptables) => {
  it("the second set-up changes nothing, and teardown leaves the host as it was found", async () => {
    await using node = await withOthers(iptables);
    const found = await dump(node, "conflist");
    await node.adopt(...subnet, "--manage-iptables");
    const first = await dump(node);
    expect(first).toContain("cocoon-net-drop");
    const { stderr } = await node.run(...node.setUpArgs("adopt", ...subnet, "--manage-iptables"));
    expect(stderr).toMatch(/^(warning: .* there is no NIC ens4\n)?$/);
    expect(await dump(node)).toBe(first);

    const others = (text: string): string[] =>
      text.split("\n").filter((line) => /docker0|not ours|10\.244|-i cni0 -o cni0/.test(line));
    expect(others(first)).toEqual(others(found));

    expect(await node.do("teardown", ...files(node), "--dry-run")).toContain("would take back: bridge cni0");
    expect(await dump(node)).toBe(first);
    await node.do("teardown", ...files(node));
    expect(await dump(node, "conflist")).toBe(found);
    expect(await readFile(node.path("30-cocoon-dhcp.conflist"), "utf8")).toBe(`{"name": "somebody's"}`);
  });
});

it("teardown leaves a bridge that was there, one with a VM on it, and a file that was changed since", {
  timeout: 180_000,
}, async () => {
  await using before = await AgentNode.create();
  await before.namespace.ip("link", "add", "cni0", "type", "bridge");
  await before.namespace.ip("link", "set", "cni0", "up");
  const found = await before.namespace.ip("-4", "-br", "address", "show", "cni0");
  // Another gateway later: the one of before goes with the repeat.
  await before.adopt(...subnet, "--gateway", "10.99.0.9");
  await before.adopt(...subnet);
  const [, , ...addresses] = (await before.namespace.ip("-4", "-br", "address", "show", "cni0"))
    .trim()
    .split(/\s+/);
  expect(addresses).toEqual(["10.99.0.1/24"]);
  await before.do("teardown", ...files(before));
  expect(await before.namespace.ip("-4", "-br", "address", "show", "cni0")).toBe(found);

  await using used = await AgentNode.create();
  await used.adopt(...subnet);
  const daemon = await used.daemon();
  const guest = await used.guest();
  const address = await guest.boot();
  await daemon.kill();
  expect(await used.routes()).toEqual([address]);
  await writeFile(used.path("30-cocoon-dhcp.conflist"), "{}");
  const { stderr } = await used.run("teardown", ...files(used));
  expect(stderr).toMatch(/^cni0 stays: tap\d+ are plugged into it$/m);
  expect(stderr).toMatch(/conflist stays: it was changed since$/m);
  expect(await used.routes()).toEqual([]);
  expect(await readFile(used.path("30-cocoon-dhcp.conflist"), "utf8")).toBe("{}");
});
