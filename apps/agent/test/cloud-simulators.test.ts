import { readFile, stat } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { AgentNode } from "./support/agent-node.ts";
import { init, startSimulator, teardown } from "./support/cloud-simulator.ts";
import { succeed } from "./support/command.ts";

/** What the program before this one writes, and reads. */
const poolFields = [
  ...[
    "platform",
    "nodeName",
    "subnet",
    "gateway",
    "primaryNIC",
    "secondaryNICs",
    "ips",
    "eniIDs",
    "subnetID",
  ],
  ...["aliasRangeName", "dnsServers", "dropInternalAccess", "dropCIDRs", "updatedAt"],
];

/** `pool.json`, which has to be as that program writes it. */
async function readPool(node: AgentNode): Promise<Record<string, unknown>> {
  const path = node.path("state/pool.json");
  const text = await readFile(path, "utf8");
  const pool = JSON.parse(text) as Record<string, unknown>;
  expect(text.trimEnd()).toBe(JSON.stringify(pool, undefined, 2));
  expect((await stat(path)).mode & 0o777).toBe(0o644);
  expect((await stat(node.path("state"))).mode & 0o777).toBe(0o750);
  expect(Object.keys(pool).filter((name) => !poolFields.includes(name))).toEqual([]);
  expect(Object.values(pool).filter((value) => value === null)).toEqual([]);
  expect(pool.updatedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  return pool;
}

describe("init, status and teardown against the simulators' commands", { timeout: 180_000 }, () => {
  it("volcengine: ENIs with addresses, their NICs up, and all of it given back", async () => {
    await using it = await startSimulator("volcengine", "--instance", "i-n1");
    const { node } = it;
    // The ENIs' NICs: the simulator counts MACs up, the first one is the instance's own.
    for (const n of [2, 3]) {
      const link = ["link", "add", `nic${n}`, "address", `00:16:3e:00:00:0${n}`, "type", "veth"];
      await node.namespace.ip(...link, "peer", "name", `vpc${n}`);
    }
    await init(node, "volcengine", "--pool-size", "40");
    const pool = await readPool(node);
    const { enis = [], subnets = [] } = await it.state();
    expect(subnets).toContainEqual(
      expect.objectContaining({ subnetID: pool.subnetID, cidr: "172.20.7.0/24" }),
    );
    expect(pool).toMatchObject({
      platform: "volcengine",
      nodeName: "n1",
      gateway: "172.20.7.1",
      primaryNIC: "eth0",
      secondaryNICs: ["nic2", "nic3"],
    });
    expect(pool.ips).toHaveLength(40);
    expect(pool.eniIDs).toHaveLength(2);
    for (const eniID of pool.eniIDs as string[]) {
      expect(enis).toContainEqual(expect.objectContaining({ eniID, status: "InUse", instanceID: "i-n1" }));
    }
    const up = await node.namespace.ip("-o", "link", "show", "up");
    for (const nic of ["nic2@", "nic3@", "cni0:"]) expect(up).toContain(nic);
    const status = await node.do("status", "--state-dir", node.path("state"));
    expect(status).toMatch(/^Platform: +volcengine\nNode: +n1\nSubnet: +172\.20\.7\.0\/24\n/);
    expect(status).toContain((pool.eniIDs as string[]).join(", "));

    await teardown(node);
    expect((await it.state()).enis).toHaveLength(1);
    expect(await succeed(["ls", node.path("state")])).toBe("");
    const refused = Object.values(await it.calls()).flatMap((results) =>
      Object.keys(results).filter((result) => result !== "ok"),
    );
    expect(refused).toEqual([]);
  });

  it("gke: the block as an alias range of the instance, and given back", async () => {
    await using it = await startSimulator("gce", "--instance", "n1");
    const { node } = it;
    await init(node, "gke", "--pool-size", "140");
    const pool = await readPool(node);
    expect(pool).toMatchObject({
      platform: "gke",
      nodeName: "n1",
      gateway: "172.20.7.1",
      aliasRangeName: "cocoon-pods",
      subnetID: "projects/demo-project/regions/us-central1/subnetworks/nodes",
    });
    expect(pool.ips).toHaveLength(140);
    const aliases = [{ cidr: "172.20.7.0/24", rangeName: "cocoon-pods" }];
    expect((await it.state()).instances).toMatchObject([{ name: "n1", nic: { aliases } }]);
    const status = await node.do("status", "--state-dir", node.path("state"));
    expect(status).toMatch(/^Aliases: +cocoon-pods:172\.20\.7\.0\/24$/m);
    const cron = node.cronPath("cocoon-net-fix-alias");
    expect(await readFile(cron, "utf8")).toMatch(/^@reboot root ip route del local 172\.20\.7\.0\/24 /);

    await teardown(node);
    expect((await it.state()).instances).toMatchObject([{ name: "n1", nic: { aliases: [] } }]);
    await expect(readFile(cron)).rejects.toThrow("ENOENT");
    expect(await succeed(["ls", node.path("state")])).toBe("");
  });

  it("says in one line what the cloud refuses", async () => {
    await using it = await startSimulator("volcengine", "--instance", "i-n1", "--denied", "CreateSubnet");
    const { node } = it;
    const args = node.setUpArgs("init", "--platform", "volcengine", "--subnet", "172.20.7.0/24");
    const { code, stderr } = await node.run(...args);
    expect(code).toBe(1);
    expect(stderr.trimEnd().split("\n").at(-1)).toMatch(/^cocoon-net: .*vpc:CreateSubnet/);
    expect((await it.state()).enis).toHaveLength(1);
    // Nothing was made, and that is on record: teardown has nothing to find.
    await teardown(node);
    expect(await succeed(["ls", node.path("state")])).toBe("");
  });
});
