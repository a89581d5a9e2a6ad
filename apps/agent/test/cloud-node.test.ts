import { DisposeStack } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import type { AgentNode } from "./support/agent-node.ts";
import { Running, until } from "./support/command.ts";
import { Hub } from "./support/hub.ts";

interface Pool {
  readonly subnet: string;
  readonly ips: string[];
  readonly eniIDs: string[];
  readonly subnetID: string;
  readonly secondaryNICs: string[];
}

interface World extends AsyncDisposable {
  readonly hub: Hub;
  node(name: string): Promise<AgentNode>;
}

async function world(): Promise<World> {
  await using parts = new DisposeStack();
  const hub = parts.use(await Hub.create());
  const { api, region } = await hub.call("startCloud");
  const owned = parts.move();
  return {
    hub,
    async node(name) {
      const node = await hub.node();
      Object.assign(node.env, {
        COCOON_NET_VOLCENGINE_ENDPOINT: api,
        COCOON_NET_METADATA_ENDPOINT: await hub.call("addInstance", `i-${name}`, node.namespace.name),
        VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
        VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
        VOLCENGINE_REGION: region,
      });
      return node;
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

const size = ["--pool-size", "40"];

function initArgs(node: AgentNode, ...more: readonly string[]): string[] {
  return node.setUpArgs("init", "--platform", "volcengine", ...size, ...more);
}

function teardownArgs(node: AgentNode, ...more: readonly string[]): string[] {
  const files = ["--state-dir", node.path("state"), "--lease-file", node.path("leases.json")];
  return ["teardown", ...files, "--pid-file", node.path("daemon.pid"), ...more];
}

async function tearDown(node: AgentNode, ...more: readonly string[]): Promise<void> {
  await node.do(...teardownArgs(node, ...more));
}

async function secondaryENIs(hub: Hub): Promise<string[]> {
  const { enis } = await hub.call("cloudState");
  return enis.filter(({ type }) => type === "secondary").map(({ eniID }) => eniID);
}

/** That what is on record, at the cloud and in the kernel is the same, and nothing else is there. */
async function expectWhole(hub: Hub, node: AgentNode): Promise<Pool> {
  const pool = await node.json<Pool>("state/pool.json");
  expect((await secondaryENIs(hub)).toSorted()).toEqual(pool.eniIDs.toSorted());
  expect(pool.ips).toHaveLength(40);
  expect(pool.subnetID).toMatch(/^subnet-/);
  const links = JSON.parse(await node.namespace.ip("-j", "link")) as { ifname: string; flags: string[] }[];
  const up = links.filter(({ flags }) => flags.includes("UP")).map(({ ifname }) => ifname);
  expect(pool.secondaryNICs).toHaveLength(pool.eniIDs.length);
  expect(up).toEqual(expect.arrayContaining([...pool.secondaryNICs, "cni0"]));
  expect((await node.namespace.exec("ls", node.path("state"))).split("\n")).not.toContain("job.json");
  return pool;
}

describe("a node at the cloud", { timeout: 180_000 }, () => {
  it("is provisioned in a subnet of the cluster and given back in full, however often that takes", async () => {
    await using it = await world();
    const { hub } = it;
    const url = await hub.call("startServer", "etcd");
    const store = ["--store", url];
    const node = await it.node("n1");
    const dry = await node.do(...initArgs(node, ...store, "--parent-cidr", "172.20.0.0/16", "--dry-run"));
    expect(dry).toMatch(/^would provision: volcengine instance i-n1$/m);
    expect(await hub.call("list", "")).toEqual({});

    await node.do(...initArgs(node, ...store, "--parent-cidr", "172.20.0.0/16"));
    const pool = await expectWhole(hub, node);
    expect(pool.subnet).toBe("172.20.0.0/24");
    expect(await node.json("state/registration.json")).toMatchObject({ uid: "i-n1", instanceID: "i-n1" });
    const record = JSON.parse((await hub.call("list", "nodes/"))["nodes/n1"] ?? "") as object;
    expect(record).toMatchObject({ eniIDs: pool.eniIDs, subnetID: pool.subnetID, pool: { size: 40 } });
    const status = await node.do("status", "--state-dir", node.path("state"));
    expect(status).toContain(pool.eniIDs.join(", "));
    expect(status).toContain(pool.subnetID);

    await node.do(...initArgs(node, ...store));
    expect(await expectWhole(hub, node)).toEqual({ ...pool, updatedAt: expect.anything() });

    // What the cloud refuses to give up is told, and stays on record.
    const foreign = await hub.call("addForeignENI", pool.subnetID, ["172.20.0.200"]);
    const { updatedAt, ...rest } = await node.json<Pool & { updatedAt: string }>("state/pool.json");
    await node.write("state/pool.json", { ...rest, updatedAt, eniIDs: [...pool.eniIDs, foreign] });
    const refused = await node.run(...teardownArgs(node, ...store));
    expect(refused.code).toBe(1);
    const last = refused.stderr.trimEnd().split("\n").at(-1) ?? "";
    expect(last).toMatch(
      new RegExp(
        `^cocoon-net: the cloud still has ${foreign} \\(.*\\) of n1; nothing else was removed; run it again$`,
      ),
    );
    expect((await node.json<Pool>("state/pool.json")).eniIDs).toEqual([foreign]);
    expect(Object.keys(await hub.call("list", "subnets/"))).toEqual(["subnets/n1"]);
    await node.write("state/pool.json", { ...rest, updatedAt, eniIDs: [] });

    await hub.call("injectFault", { action: "DescribeNetworkInterfaces", kind: "hang" });
    const asked = (await hub.call("calls")).DescribeNetworkInterfaces ?? 0;
    await using interrupted = new Running(
      "teardown",
      node.argv(teardownArgs(node, ...store)),
      node.environment,
    );
    await until("teardown to ask the cloud", async () => {
      return ((await hub.call("calls")).DescribeNetworkInterfaces ?? 0) > asked;
    });
    expect(await interrupted.kill("SIGTERM")).toBe("exit code 1");
    expect(interrupted.output).toContain("cocoon-net: stopped before it was done");

    await hub.call("clearFaults");
    await tearDown(node, ...store);
    expect(await secondaryENIs(hub)).toEqual([foreign]);
    expect(await hub.call("list", "subnets/")).toEqual({});
    expect(await node.namespace.exec("ls", node.path("state"))).toBe("");
  });

  it.each(["CreateSubnet", "CreateNetworkInterface", "AttachNetworkInterface"])(
    "is finished, or undone, after a crash of init at %s",
    async (action) => {
      await using it = await world();
      const { hub } = it;
      const node = await it.node("n1");
      const args = initArgs(node, "--subnet", "172.20.7.0/24");
      for (const after of ["init", "teardown"] as const) {
        // It is done, and never answered: else init might be further before it is killed.
        await hub.call("injectFault", { action, kind: "late-hang" });
        const before = (await hub.call("calls"))[action] ?? 0;
        await using init = new Running("init", node.argv(args), node.environment);
        await until(`init to ask for ${action}`, async () => {
          if (init.ended !== undefined) throw new Error(`it ended with ${init.ended}: ${init.output}`);
          return ((await hub.call("calls"))[action] ?? 0) > before;
        });
        await init.kill("SIGKILL");
        await hub.call("clearFaults");
        if (after === "init") {
          await node.do(...args);
          await expectWhole(hub, node);
        }
        await tearDown(node);
        expect(await secondaryENIs(hub)).toEqual([]);
        if (action === "CreateSubnet") break; // the subnet stays for the next node, so it is asked for once
      }
    },
  );

  it("is torn down after a crash of init whose request for a subnet has never been answered", async () => {
    await using it = await world();
    const { hub } = it;
    const node = await it.node("n1");
    const url = await hub.call("startServer", "etcd");
    await hub.call("injectFault", { action: "CreateSubnet", kind: "hang" });
    const store = ["--store", url];
    const args = initArgs(node, ...store, "--parent-cidr", "172.20.0.0/16");
    await using init = new Running("init", node.argv(args), node.environment);
    await until("init to ask for a subnet", async () => {
      return ((await hub.call("calls")).CreateSubnet ?? 0) > 0;
    });
    await init.kill("SIGKILL");
    expect(await node.json("state/job.json")).toMatchObject({ steps: [{ phase: "intent" }] });
    await tearDown(node, ...store);
    expect(await hub.call("list", "subnets/")).toEqual({});
    expect(await node.namespace.exec("ls", node.path("state"))).toBe("");
  });

  it("stops at Ctrl-C, says so in one line, and goes on from there", async () => {
    await using it = await world();
    const { hub } = it;
    const node = await it.node("n1");
    const args = initArgs(node, "--subnet", "172.20.7.0/24");
    await hub.call("injectFault", { action: "AttachNetworkInterface", kind: "hang" });
    await using init = new Running("init", node.argv(args), node.environment);
    await init.says("attaching");
    expect(await init.kill("SIGINT")).toBe("exit code 1");
    const lines = init.output.trimEnd().split("\n");
    expect(lines.filter((line) => line.startsWith("cocoon-net: "))).toEqual([
      "cocoon-net: stopped before it was done; running it again goes on from there",
    ]);
    expect(init.output).not.toMatch(/^\s+at /m);
    await hub.call("clearFaults");
    await node.do(...args);
    await expectWhole(hub, node);
  });

  it("keeps to the subnet it has at the cloud, until it is torn down", async () => {
    await using it = await world();
    const { hub } = it;
    const node = await it.node("n1");
    await node.do(...initArgs(node, "--subnet", "172.20.7.0/24"));
    expect(await node.run(...initArgs(node, "--subnet", "172.20.8.0/24"))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^cocoon-net: this node has 172\.20\.7\.0\/24 at the cloud.*teardown.*\n$/,
      ),
    });
    const pool = await expectWhole(hub, node);

    // It grows there, and what was moved away is left to the node that serves it.
    const away = "172.20.7.200";
    await hub.call("addForeignENI", pool.subnetID, ["172.20.7.199", away], "i-other");
    const grow = node.resizeArgs("--pool-size", "40");
    expect((await node.run(...grow)).stderr).toMatch(/ is attached to i-other; /);
    const record = { home: "n1", subnet: pool.subnet, node: "n2", uid: "i-other", mac: "52:54:00:00:00:99" };
    await node.write("state/moved.json", {
      ...{ subnet: pool.subnet, uid: "i-n1", addresses: { [away]: { record: { ...record, seq: 1 } } } },
    });
    expect(await node.do(...grow)).toBe('{"addresses":40}\n');
  });

  it("that lost its subnet gets another one, and nothing of the old one is left at the cloud", async () => {
    await using it = await world();
    const { hub } = it;
    const url = await hub.call("startServer", "etcd");
    const node = await it.node("n1");
    await node.do(...initArgs(node, "--store", url, "--parent-cidr", "172.20.0.0/16"));
    const before = await expectWhole(hub, node);
    await hub.call("remove", "subnets/n1", "nodes/n1", "slots/172.20.0.0/24");
    await hub.call("put", "slots/172.20.0.0/24", JSON.stringify({ node: "", uid: "i-n1" }));
    await node.do(...initArgs(node, "--store", url));
    const after = await expectWhole(hub, node);
    expect(after.subnet).toBe("172.20.1.0/24");
    expect(after.eniIDs.filter((id) => before.eniIDs.includes(id))).toEqual([]);
  });

  it("whose pool follows demand starts small, and has an address for each of 140 guests that boot at once", {
    timeout: 180_000,
  }, async () => {
    await using it = await world();
    const { hub } = it;
    const node = await it.node("n1");
    const demand = ["--pool-target", "8", "--pool-max", "140"];
    await node.do(
      ...node.setUpArgs("init", "--platform", "volcengine", "--subnet", "172.20.7.0/24", ...demand),
    );
    const pool = () => node.json<Pool>("state/pool.json");
    expect((await pool()).ips).toHaveLength(8);
    // All these guests are behind one port of the bridge.
    await node.write("config.yaml", "dhcp: { leasesPerPort: 141 }\n");
    node.env.COCOON_NET_CONFIG = node.path("config.yaml");
    const daemon = await node.daemon();
    const addresses = await (await node.guest()).bootMany(140, 90);
    expect(new Set(addresses).size).toBe(140);
    await daemon.says("the pool has grown");
    const { ips, eniIDs } = await pool();
    expect(ips).toHaveLength(140);
    expect(ips).toEqual(expect.arrayContaining(addresses));
    expect((await secondaryENIs(hub)).toSorted()).toEqual(eniIDs.toSorted());
    await until("nobody to wait", async () =>
      /^cocoon_net_dhcp_waiting_guests 0$/m.test(await node.metrics()),
    );
    // One more is beyond what is allowed: it is told, and the cloud is not asked for it.
    const asked = (await hub.call("calls")).AssignPrivateIpAddresses ?? 0;
    expect(await (await node.guest()).tryFor(2)).toBeUndefined();
    await daemon.says("1 guest more than --pool-max 140 allows");
    expect((await hub.call("calls")).AssignPrivateIpAddresses ?? 0).toBe(asked);
    expect(await node.metrics()).toMatch(/^cocoon_net_pool_short 1$/m);
    // What the daemon has not set aside it may grant at any moment.
    expect(await node.run(...node.resizeArgs("--release", addresses[0] ?? ""))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        `^cocoon-net: the daemon is running \\(pid ${daemon.pid}\\) and may grant ${addresses[0]}; stop it`,
      ),
    });
  });

  it("gives addresses back while it runs, and finishes that after a crash", async () => {
    await using it = await world();
    const { hub } = it;
    const node = await it.node("n1");
    await node.do(...initArgs(node, "--subnet", "172.20.7.0/24"));
    const assigned = async (): Promise<string[]> =>
      (await hub.call("cloudState")).enis
        .filter(({ type }) => type === "secondary")
        .flatMap(({ addresses }) => addresses.slice(1).map(({ address }) => address))
        .toSorted();
    const { ips } = await node.json<Pool>("state/pool.json");
    const [first = "", second = "", third = ""] = ips;
    const expiry = new Date(Date.now() + 3_600_000).toISOString();
    await node.write("leases.json", [{ mac: "52:54:00:00:00:09", ip: second, expiry }]);
    expect(await node.run(...node.resizeArgs("--release", `${first},${second}`))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        `^cocoon-net: ${second} is leased to 52:54:00:00:00:09 until .*; nothing was given back; [^\n]*\n$`,
      ),
    });
    expect(await assigned()).toEqual(ips.toSorted());
    await node.write("leases.json", []);
    expect(await node.do(...node.resizeArgs("--release", `${first},${second}`))).toBe('{"addresses":38}\n');
    expect(await assigned()).toEqual(ips.slice(2).toSorted());

    const action = "UnassignPrivateIpAddresses";
    await hub.call("injectFault", { action, kind: "hang" });
    const before = (await hub.call("calls"))[action] ?? 0;
    await using crashed = new Running(
      "resize",
      node.argv(node.resizeArgs("--release", third)),
      node.environment,
    );
    await until("the cloud to be asked", async () => ((await hub.call("calls"))[action] ?? 0) > before);
    await crashed.kill("SIGKILL");
    expect((await node.json<Pool>("state/pool.json")).ips).not.toContain(third);
    await hub.call("clearFaults");
    expect(await node.do(...node.resizeArgs("--pool-size", "40"))).toBe('{"addresses":40}\n');
    const now = await node.json<Pool>("state/pool.json");
    expect(await assigned()).toEqual(now.ips.toSorted());
    await tearDown(node);
    expect(await secondaryENIs(hub)).toEqual([]);
  });
});
