import { copyFile, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { StateDirectory } from "../src/state-directory.ts";
import { AgentNode } from "./support/agent-node.ts";
import type { Running } from "./support/command.ts";
import { until } from "./support/command.ts";

/** `pool.json` as the program before writes it: Go's encoder, two spaces, no line feed at the end. */
const pool = {
  platform: "gke",
  nodeName: "old-1",
  subnet: "10.99.0.0/24",
  gateway: "10.99.0.1",
  primaryNIC: "ens4",
  ips: Array.from({ length: 20 }, (_, index) => `10.99.0.${index + 10}`),
  dnsServers: ["8.8.8.8", "1.1.1.1"],
  dropCIDRs: ["192.168.0.0/16"],
  updatedAt: "2026-07-01T08:00:00Z",
};
const poolText = JSON.stringify(pool, null, 2);

/** The host as it sets it up. */
async function setUpAsBefore(node: AgentNode): Promise<void> {
  const { namespace } = node;
  await namespace.ip("link", "add", "cni0", "address", "02:00:00:00:fd:01", "type", "bridge");
  await namespace.ip("address", "add", "10.99.0.1/24", "dev", "cni0");
  await namespace.ip("link", "set", "cni0", "up");
  const drop = ["-m", "comment", "--comment", "cocoon-net-drop", "-j", "DROP"];
  await namespace.exec("iptables", "-I", "FORWARD", "1", "-i", "cni0", "-d", "192.168.0.0/16", ...drop);
  await mkdir(node.path("state"));
  await writeFile(node.path("state/pool.json"), poolText);
}

/** What it makes of `leases.json` at every change: the same entries in its own layout. */
async function rewriteAsBefore(node: AgentNode): Promise<void> {
  const leases = await node.json("leases.json");
  await writeFile(node.path("leases.json.tmp"), JSON.stringify(leases, null, 2));
  await rename(node.path("leases.json.tmp"), node.path("leases.json"));
}

/** What it knows of a node: `pool.json` and `leases.json`, nothing else that ours keeps. */
async function programBefore(node: AgentNode): Promise<Running> {
  const directory = node.path(`before-${Date.now()}`);
  await mkdir(directory);
  await copyFile(node.path("state/pool.json"), `${directory}/pool.json`);
  return await node.daemon("--state-dir", directory);
}

it("is switched to from the program before, back, and to again, while VMs renew and one after another comes", {
  timeout: 180_000,
}, async () => {
  await using node = await AgentNode.create();
  await setUpAsBefore(node);
  const rules = await node.namespace.exec("iptables", "-S");
  const before = await programBefore(node);
  const [one, two, three] = [await node.guest(), await node.guest(), await node.guest()];
  const addresses = [await one.boot(), await two.boot()];
  await before.kill();
  await rewriteAsBefore(node);
  const handedOver = await node.leases();

  const ours = await node.daemon();
  expect(await node.leases()).toEqual(handedOver);
  expect(await node.routes()).toEqual(addresses.toSorted());
  expect([await one.renew(), await two.renew()]).toEqual(addresses);
  addresses.push(await three.boot());
  expect(await ours.kill()).toBe("exit code 0");
  // Nothing of ours stands in its way: the same files, each entry with its three fields, seconds without a fraction.
  expect(await readFile(node.path("state/pool.json"), "utf8")).toBe(poolText);
  expect((await stat(node.path("leases.json"))).mode & 0o777).toBe(0o644);
  for (const entry of await node.json<object[]>("leases.json")) {
    expect(entry).toEqual({
      mac: expect.stringMatching(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
      ip: expect.stringMatching(/^10\.99\.0\.\d+$/),
      expiry: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
  }

  const back = await programBefore(node);
  expect([await one.renew(), await two.renew(), await three.renew()]).toEqual(addresses);
  // While it serves, one VM leaves and another comes: ours must not go by what it remembers of the time before.
  await two.release();
  await until("the lease's end", async () => !(await node.leases()).join().includes(two.mac));
  const four = await node.guest();
  const fourth = await four.boot();
  await back.kill();
  await rewriteAsBefore(node);

  const again = await node.daemon();
  expect([await one.renew(), await three.renew(), await four.renew()]).toEqual([
    addresses[0],
    addresses[2],
    fourth,
  ]);
  for (const guest of [one, three, four]) {
    expect((await guest.events()).filter((line) => !/^(deconfig|bound|renew) /.test(line))).toEqual([]);
    expect((await guest.events()).filter((line) => line.startsWith("deconfig"))).toHaveLength(1);
  }
  expect(await node.namespace.exec("iptables", "-S")).toBe(rules);
  expect(await again.kill()).toBe("exit code 0");
});

describe("pool.json", () => {
  const read = async (file: object): Promise<unknown> => {
    await using node = await AgentNode.create();
    await node.write("pool.json", file);
    return await new StateDirectory(node.directory).readPool();
  };
  const { gateway, updatedAt, ...early } = pool;

  it("of an early version may lack fields", async () => {
    expect(await read(early)).toMatchObject({ gateway: "10.99.0.1", updatedAt: "unknown" });
    expect(await read({ platform: "gke", nodeName: "n", subnet: "10.99.0.0/24", ips: null })).toMatchObject({
      gateway: "10.99.0.1",
      ips: [],
    });
  });

  it("of a newer version keeps what this one does not know", async () => {
    expect(await read({ ...pool, ipv6: ["fd00::1"], schema: 9 })).toMatchObject({
      ipv6: ["fd00::1"],
      schema: 9,
    });
  });

  it("that was edited by hand is told by its first mistake", async () => {
    await expect(read({ ...pool, ips: ["10.99.0.2", "10.99.0.300"] })).rejects.toThrow(
      /pool\.json: ips\.1: /,
    );
    await expect(read({ ...pool, subnet: "10.99.0.0" })).rejects.toThrow(/pool\.json: subnet: /);
    await expect(read([])).rejects.toThrow(/pool\.json: value: /);
    const { nodeName, ...nameless } = pool;
    await expect(read(nameless)).rejects.toThrow(/pool\.json: nodeName: /);
  });
});
