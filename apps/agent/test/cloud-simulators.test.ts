import { readFile, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";
import { Running, succeed } from "./support/command.ts";

const simulator = fileURLToPath(
  new URL("../../../packages/cloud-testkit/bin/cocoon-cloud-sim.js", import.meta.url),
);

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

const api = "127.0.0.1:8080";

interface Simulated extends AsyncDisposable {
  readonly node: AgentNode;
  state(): Promise<Record<string, unknown[]>>;
  calls(): Promise<Record<string, Record<string, number>>>;
}

/** The simulator's command beside a node that has what the command says to export in its environment. */
async function startSimulator(...args: readonly string[]): Promise<Simulated> {
  await using parts = new DisposeStack();
  const node = parts.use(await AgentNode.create());
  const { namespace } = node;
  await namespace.ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire0");
  await namespace.ip("link", "set", "eth0", "up");
  const listen = ["--listen", api, "--metadata-listen", "127.0.0.1:8081", "--delay", "20"];
  const running = parts.use(
    new Running("cocoon-cloud-sim", [...namespace.enter, process.execPath, simulator, ...args, ...listen]),
  );
  await running.says("Ctrl-C ends it.");
  const exports = running.output.matchAll(/^ {2}export (\w+)=(\S+)$/gm);
  Object.assign(node.env, Object.fromEntries([...exports].map(([, name, value]) => [name, value])), {
    // No credentials of whoever runs this.
    CLOUDSDK_CONFIG: node.path("none"),
  });
  const owned = parts.move();
  const get = async <T>(path: string): Promise<T> => {
    const script = `fetch("http://${api}${path}").then((answer) => answer.text()).then(console.log)`;
    return JSON.parse(await namespace.exec(process.execPath, "-e", script)) as T;
  };
  return {
    node,
    state: () => get("/sim/state"),
    calls: () => get("/sim/calls"),
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** `setUpArgs` names a platform: the last one counts. */
function init(node: AgentNode, platform: string, ...more: readonly string[]): Promise<string> {
  const args = node.setUpArgs("init", "--platform", platform, "--subnet", "172.20.7.0/24", ...more);
  return node.do(...args, "--primary-nic", "eth0");
}

async function teardown(node: AgentNode): Promise<string> {
  const files = ["--state-dir", node.path("state"), "--lease-file", node.path("leases.json")];
  return await node.do("teardown", ...files, "--pid-file", node.path("daemon.pid"));
}

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

describe("init, status and teardown against the simulators' commands", { timeout: 60_000 }, () => {
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

    await teardown(node);
    expect((await it.state()).instances).toMatchObject([{ name: "n1", nic: { aliases: [] } }]);
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
  });
});
