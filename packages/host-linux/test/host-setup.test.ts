import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DisposeStack } from "@cocoon-net/core";
import { conflist, type HostPlan, writeConflist } from "@cocoon-net/host-linux";
import { expect, test } from "vitest";
import { Namespace, Resident } from "./support/namespace.ts";

test("a bare host is made ready in the documented order, once", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  const directory = await mkdtemp(join(tmpdir(), "host-linux-"));
  await using cleanup = new DisposeStack();
  cleanup.defer(() => rm(directory, { recursive: true }));
  const path = join(directory, "net.d", "30-cocoon-dhcp.conflist");
  await namespace.ip("link", "add", "eth1", "type", "ifb");
  for (const conf of ["all", "default", "eth1"]) {
    await namespace.exec("sysctl", "-w", `net.ipv4.conf.${conf}.rp_filter=1`);
  }
  const plan: HostPlan = {
    subnet: "172.20.100.0/24",
    gateway: "172.20.100.1",
    primaryNIC: "eth0",
    secondaryNICs: ["eth1"],
    conflistPath: path,
  };

  const { changes, warnings } = await host.call("setUpHost", plan, "iptables");
  expect(changes.map((line) => line.replace(/ iptables rule .*/, " rule"))).toEqual([
    "created bridge cni0",
    "set address 172.20.100.1/24 on cni0",
    "set cni0 up",
    "set sysctl net.ipv4.ip_forward=1",
    "set sysctl net.ipv4.conf.all.rp_filter=0",
    "set sysctl net.ipv4.conf.default.rp_filter=0",
    "set sysctl net.ipv4.conf.cni0.rp_filter=0",
    "set sysctl net.ipv4.conf.eth1.rp_filter=0",
    "added rule",
    "added rule",
    "added rule",
    "added rule",
    `wrote ${path}`,
  ]);
  expect(warnings).toEqual(["sysctl net.ipv4.conf.eth0.rp_filter=0 is not set: there is no NIC eth0"]);
  for (const key of ["ip_forward", "conf.all.rp_filter", "conf.cni0.rp_filter", "conf.eth1.rp_filter"]) {
    const value = (await namespace.exec("sysctl", "-n", `net.ipv4.${key}`)).trim();
    expect(`${key}=${value}`).toBe(`${key}=${key === "ip_forward" ? 1 : 0}`);
  }
  expect(await host.call("getLink", "cni0")).toMatchObject({ up: true, mac: "02:c0:ac:14:64:01" });

  const first = await namespace.snapshot();
  const written = (await stat(path)).mtimeMs;
  expect(await host.call("setUpHost", plan, "iptables")).toEqual({ changes: [], warnings });
  expect(await namespace.snapshot()).toBe(first);
  expect((await stat(path)).mtimeMs).toBe(written);
});

test("iptables is left alone when the plan says so", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  const directory = await mkdtemp(join(tmpdir(), "host-linux-"));
  await using cleanup = new DisposeStack();
  cleanup.defer(() => rm(directory, { recursive: true }));
  const plan: HostPlan = {
    subnet: "172.20.100.0/24",
    gateway: "172.20.100.1",
    manageIptables: false,
    dropCIDRs: ["10.0.0.0/8"],
    conflistPath: join(directory, "x.conflist"),
  };
  await host.call("setUpHost", plan, "iptables-nowhere");
  expect(await namespace.exec("iptables", "-S")).not.toContain("-A");
});

test("the CNI network is written whole, only when different, and leaves nothing behind", async () => {
  const directory = await mkdtemp(join(tmpdir(), "host-linux-"));
  await using cleanup = new DisposeStack();
  cleanup.defer(() => rm(directory, { recursive: true }));
  const path = join(directory, "30-cocoon-dhcp.conflist");
  await writeFile(path, "{}");
  expect(await writeConflist("cni0", path)).toBe(true);
  expect(await writeConflist("cni0", path)).toBe(false);
  expect(await readdir(directory)).toEqual(["30-cocoon-dhcp.conflist"]);
  expect((await stat(path)).mode & 0o777).toBe(0o644);
  const content = await readFile(path, "utf8");
  expect(content).toBe(conflist("cni0"));
  expect(JSON.parse(content)).toEqual({
    cniVersion: "1.0.0",
    name: "cocoon-dhcp",
    plugins: [
      {
        type: "bridge",
        bridge: "cni0",
        isGateway: false,
        ipMasq: false,
        portIsolation: true,
        macspoofchk: true,
        ipam: {},
      },
    ],
  });
  await expect(writeConflist("cni0", join(path, "below-a-file"))).rejects.toMatchObject({
    code: "kernel",
    message: `write CNI network ${join(path, "below-a-file")}: ENOTDIR`,
  });
});
