import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DisposeStack } from "@cocoon-net/core";
import type { HostPlan } from "@cocoon-net/host-linux";
import { describe, expect, test } from "vitest";
import { Namespace, Resident } from "./support/namespace.ts";

async function inNamespace(): Promise<
  AsyncDisposable & { namespace: Namespace; host: Resident; plan: HostPlan; directory: string }
> {
  await using stack = new DisposeStack();
  const namespace = stack.use(await Namespace.create());
  const host = stack.use(new Resident(namespace));
  const directory = await mkdtemp(join(tmpdir(), "host-linux-"));
  stack.defer(() => rm(directory, { recursive: true }));
  const plan: HostPlan = {
    subnet: "172.20.100.0/24",
    gateway: "172.20.100.1",
    conflistPath: join(directory, "30-cocoon-dhcp.conflist"),
  };
  const world = stack.move();
  return { namespace, host, plan, directory, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

const TAG = ["-m", "comment", "--comment", "cocoon-net-drop"];

describe.each(["iptables-nft", "iptables-legacy"])("%s", (iptables) => {
  const listing = async (namespace: Namespace, ...args: string[]): Promise<string[]> =>
    (await namespace.exec(iptables, "-w", "10", ...args)).split("\n").filter((line) => line.startsWith("-A"));

  test("rules are exactly the documented ones, and once", async () => {
    await using world = await inNamespace();
    const { namespace, host } = world;
    const plan: HostPlan = {
      ...world.plan,
      secondaryNICs: ["eth1", "eth2"],
      dropInternalAccess: true,
      dropCIDRs: ["10.0.0.0/8", "192.168.7.9/32", "10.0.0.0/8"],
    };
    const { changes } = await host.call("setUpHost", plan, iptables);
    expect(changes.filter((line) => line.startsWith("added iptables rule"))).toHaveLength(9);
    expect(await listing(namespace, "-S", "FORWARD")).toEqual([
      "-A FORWARD -d 172.20.100.0/24 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
      "-A FORWARD -d 10.0.0.0/8 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
      "-A FORWARD -d 192.168.7.9/32 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
      "-A FORWARD -i eth1 -o cni0 -j ACCEPT",
      "-A FORWARD -i cni0 -o eth1 -j ACCEPT",
      "-A FORWARD -i eth2 -o cni0 -j ACCEPT",
      "-A FORWARD -i cni0 -o eth2 -j ACCEPT",
      "-A FORWARD -i cni0 -o cni0 -j ACCEPT",
    ]);
    expect(await listing(namespace, "-t", "nat", "-S")).toEqual([
      "-A POSTROUTING -s 172.20.100.0/24 ! -o cni0 -j MASQUERADE",
    ]);
    const first = await namespace.snapshot();
    expect(await host.call("setUpHost", plan, iptables)).toMatchObject({ changes: [] });
    expect(await namespace.snapshot()).toBe(first);
  });

  test("rules of others keep their place, also those that look like ours", async () => {
    await using world = await inNamespace();
    const { namespace, host, plan } = world;
    const foreign = [
      ["-i", "docker0", "-j", "ACCEPT"],
      ["-i", "cni0", "-d", "10.3.0.0/16", "-m", "comment", "--comment", "not cocoon-net-drop", "-j", "DROP"],
      ["-d", "10.4.0.0/16", "-m", "comment", "--comment", 'say "cocoon-net-drop" twice', "-j", "DROP"],
      ["-d", "10.5.0.0/16", ...TAG, "-j", "ACCEPT"],
      ["-j", "REJECT"],
    ];
    for (const rule of foreign) await namespace.exec(iptables, "-w", "10", "-A", "FORWARD", ...rule);
    const before = await listing(namespace, "-S", "FORWARD");
    await host.call("setUpHost", { ...plan, dropCIDRs: ["10.0.0.0/8"] }, iptables);
    expect((await listing(namespace, "-S", "FORWARD")).slice(1, -1)).toEqual(before);
    expect(await host.call("removeDropRules", iptables)).toEqual([
      "removed iptables rule filter FORWARD -d 10.0.0.0/8 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
    ]);
    expect((await listing(namespace, "-S", "FORWARD")).slice(0, -1)).toEqual(before);
  });

  test("drop targets change without a gap", async () => {
    await using world = await inNamespace();
    const { namespace, host, plan, directory } = world;
    const log = join(directory, "calls");
    const spy = join(directory, "spy");
    await writeFile(spy, `#!/bin/sh\nprintf '%s\\n' "$*" >>${log}\nexec ${iptables} "$@"\n`);
    await chmod(spy, 0o755);
    await host.call("setUpHost", { ...plan, dropCIDRs: ["10.0.0.0/8", "10.1.0.0/16"] }, iptables);
    await namespace.exec(
      iptables,
      "-w",
      "10",
      "-A",
      "FORWARD",
      "-i",
      "cni0",
      "-d",
      "10.1.0.0/16",
      ...TAG,
      "-j",
      "DROP",
    );
    await host.call("setUpHost", { ...plan, dropCIDRs: ["10.1.0.0/16", "0.0.0.0/0"] }, spy);
    expect((await listing(namespace, "-S", "FORWARD")).filter((line) => line.endsWith("DROP"))).toEqual([
      "-A FORWARD -i cni0 -m comment --comment cocoon-net-drop -j DROP",
      "-A FORWARD -d 10.1.0.0/16 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
    ]);
    const steps = (await readFile(log, "utf8")).match(/-[ID] FORWARD/g);
    expect(steps).toEqual(["-I FORWARD", "-D FORWARD", "-D FORWARD"]);
    expect(
      await host.call("setUpHost", { ...plan, dropCIDRs: ["10.1.0.0/16", "0.0.0.0/0"] }, iptables),
    ).toMatchObject({ changes: [] });
    expect(await host.call("setUpHost", plan, iptables)).toMatchObject({
      changes: [expect.stringContaining("removed"), expect.stringContaining("removed")],
    });
  });

  test("nothing at all is touched when one range or name is malformed", async () => {
    await using world = await inNamespace();
    const { namespace, host, plan } = world;
    await host.call("setUpHost", { ...plan, dropCIDRs: ["10.0.0.0/8"] }, iptables);
    const before = await namespace.snapshot();
    const malformed: Partial<HostPlan>[] = [
      { dropCIDRs: ["10.1.0.0/16", "10.0.0.0/33"] },
      { dropCIDRs: ["fd00::/8"] },
      { dropCIDRs: ["10.1.0.0/16", "-j"] },
      { secondaryNICs: ["eth1", "eth+"] },
      { secondaryNICs: ["../../../kernel"] },
      { primaryNIC: "-F" },
      { bridge: "much-too-long-name" },
      { gateway: "172.20.101.1" },
      { subnet: "172.20.100.7/24" },
    ];
    for (const part of malformed) {
      await expect(host.call("setUpHost", { ...plan, ...part }, iptables)).rejects.toMatchObject({
        code: "invalid",
      });
    }
    expect(await namespace.snapshot()).toBe(before);
  });

  test("host bits of a drop range are masked, as iptables does", async () => {
    await using world = await inNamespace();
    const { namespace, host, plan } = world;
    await host.call("setUpHost", { ...plan, dropCIDRs: ["10.1.2.3/8"] }, iptables);
    expect(await listing(namespace, "-S", "FORWARD")).toContain(
      "-A FORWARD -d 10.0.0.0/8 -i cni0 -m comment --comment cocoon-net-drop -j DROP",
    );
    expect(await host.call("setUpHost", { ...plan, dropCIDRs: ["10.1.2.3/8"] }, iptables)).toMatchObject({
      changes: [],
    });
  });
});

test("a missing iptables program is named", async () => {
  await using world = await inNamespace();
  await expect(world.host.call("setUpHost", world.plan, "iptables-nowhere")).rejects.toMatchObject({
    code: "not-found",
    message: expect.stringContaining("iptables-nowhere is not installed"),
    hint: expect.stringContaining("install iptables"),
  });
});

test("what iptables says is passed on in one line", async () => {
  await using world = await inNamespace();
  await world.host.call("becomeNobody");
  await expect(world.host.call("removeDropRules", "iptables-nft")).rejects.toMatchObject({
    code: "kernel",
    message: expect.stringMatching(
      /^iptables-nft -t filter -S FORWARD: .*(Permission denied|must be root)[^\n]*$/,
    ),
  });
});
