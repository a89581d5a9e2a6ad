import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished, vi } from "vitest";
import { SignedClient } from "./signed-client.ts";

// Each starts a program, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** Its output is whole when it closes, not when it exits. */
function command(...args: string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, ["--conditions=@cocoon-net/source", main, ...args]);
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += String(chunk)));
  return { child, output: () => output };
}

it("serves API and metadata, prints how to use them, and ends on Ctrl-C", async () => {
  const at = ["--listen", "127.0.0.1:0", "--metadata-listen", "127.0.0.1:0"];
  const { child, output } = command("volcengine", ...at, "--instance", "i-lab", "--region", "cn-shanghai");
  await expect.poll(output, { timeout: 25_000 }).toContain("Ctrl-C ends it.");
  const setting = (name: string) => new RegExp(`export ${name}=(\\S+)`).exec(output())?.[1];
  const client = new SignedClient(setting("COCOON_NET_VOLCENGINE_ENDPOINT"));
  const { body } = await client.call("DescribeInstances", {}, { service: "ecs", region: "cn-shanghai" });
  expect(body.Result?.Instances).toMatchObject([{ InstanceId: "i-lab", ZoneId: "cn-shanghai-a" }]);
  const metadata = await fetch(`${setting("COCOON_NET_METADATA_ENDPOINT")}/latest/instance_id`);
  expect(await metadata.text()).toBe("i-lab");
  child.kill("SIGINT");
  expect(await once(child, "close")).toEqual([0, null]);
});

it("serves the Compute Engine API and its metadata server", async () => {
  const at = ["--listen", "127.0.0.1:0", "--metadata-listen", "127.0.0.1:0"];
  const { child, output } = command(
    "gce",
    ...at,
    "--instance",
    "node-1",
    "--secondary-range",
    "pods=10.4.0.0/16",
  );
  await expect.poll(output, { timeout: 25_000 }).toContain("Ctrl-C ends it.");
  const setting = (name: string) => new RegExp(`export ${name}=(\\S+)`).exec(output())?.[1];
  const metadata = `${setting("COCOON_NET_METADATA_ENDPOINT")}/computeMetadata/v1/instance`;
  const headers = { "metadata-flavor": "Google" };
  const name = await fetch(`${metadata}/name`, { headers });
  expect(await name.text()).toBe("node-1");
  const issued = await fetch(`${metadata}/service-accounts/default/token`, { headers });
  const token = /"access_token":"([^"]+)"/.exec(await issued.text())?.[1];
  const url = `${setting("COCOON_NET_GCE_ENDPOINT")}/compute/v1/projects/demo-project`;
  const authorization = { authorization: `Bearer ${token}` };
  const subnet = await fetch(`${url}/regions/us-central1/subnetworks/nodes`, { headers: authorization });
  expect(await subnet.json()).toMatchObject({
    secondaryIpRanges: [{ rangeName: "pods", ipCidrRange: "10.4.0.0/16" }],
  });
  child.kill("SIGTERM");
  expect(await once(child, "close")).toEqual([0, null]);
});

it("plays what it is told: limits, delays, open questions, faults, a role", async () => {
  const { child, output } = command(
    "volcengine",
    ...["--instance", "i-lab", "--metadata-listen", "127.0.0.1:0", "--role", "net"],
    ...[
      "--limit",
      "enisPerInstance=3",
      "--limit",
      "addressesPerEni=11",
      "--delay",
      "0",
      "--delay",
      "attachMs=7",
    ],
    ...["--play", "throttleStatus=400", "--play", "unknownIDs=refuse", "--reads-per-second", "1:2"],
    ...["--fault", '{"kind": "refuse", "action": "CreateSubnet", "code": "QuotaExceeded.Subnet"}'],
  );
  await expect.poll(output, { timeout: 25_000 }).toContain("Ctrl-C ends it.");
  const setting = (name: string) => new RegExp(`export ${name}=(\\S+)`).exec(output())?.[1];
  expect(setting("VOLCENGINE_ECS_METADATA")).toBe("net");
  expect(setting("VOLCENGINE_ACCESS_KEY_ID")).toBeUndefined();
  const role = `${setting("COCOON_NET_METADATA_ENDPOINT")}/latest/iam/security_credentials/net`;
  expect((await fetch(role)).status).toBe(200);
  const client = new SignedClient(setting("COCOON_NET_VOLCENGINE_ENDPOINT"));
  const types = await client.call("DescribeInstanceTypes", {}, { service: "ecs" });
  expect(types.body.Result?.InstanceTypes).toMatchObject([
    { Network: { MaximumNetworkInterfaces: 3, MaximumPrivateIpv4AddressesPerNetworkInterface: 11 } },
  ]);
  const refused = await client.call("CreateSubnet");
  expect(refused.body.ResponseMetadata.Error?.Code).toBe("QuotaExceeded.Subnet");
  await client.call("DescribeVpcs");
  expect((await client.call("DescribeVpcs")).status).toBe(400);
  child.kill("SIGTERM");
  expect(await once(child, "close")).toEqual([0, null]);
});

it("tells in its help what there is to set", async () => {
  for (const [platform, names] of [
    ["volcengine", ["enisPerInstance", "assignLockMs", "unassignMissing=refuse|partial|ignore"]],
    ["gce", ["aliasRangesPerNic", "listLagMs", "busyStatus=400|412"]],
  ] as const) {
    const { child, output } = command(platform, "--help");
    expect(await once(child, "close")).toEqual([0, null]);
    for (const name of names) expect(output()).toContain(name);
  }
});

it.each([
  [["volcengine", "--listen", "nowhere"], /Give HOST:PORT/],
  [["volcengine", "--instance", "nope"], /"nope" is not an instance id/],
  [["volcengine", "--vpc-cidr", "10.0.0.1/8"], /host bits/],
  [["volcengine", "--metadata-listen", "127.0.0.1:0"], /name it with one --instance/],
  [["volcengine", "--limit", "enis=3"], /Give one of enisPerInstance, /],
  [["volcengine", "--delay", "attachMs=soon"], /Give a number/],
  [["volcengine", "--play", "throttleStatus=500"], /Give throttleStatus=429\|400\|200/],
  [["volcengine", "--denied", "MakeSubnet"], /no action MakeSubnet/],
  [["volcengine", "--reads-per-second", "4:0"], /Give N or N:BURST/],
  [["volcengine", "--fault", "throttle"], /Give JSON/],
  [["volcengine", "--fault", '{"kind": "explode"}'], /use one of throttle/],
  [["volcengine", "--fault", '{"kind": "throttle", "action": "x"}'], /there is no such action/],
  [["gce", "--instance", "No!"], /"No!" is not an instance name/],
  [["gce", "--secondary-range", "pods"], /Give NAME=CIDR/],
  [["gce", "--metadata-listen", "127.0.0.1:0"], /name it with one --instance/],
])("%j is one clear line", async (args, message) => {
  const { child, output } = command(...args);
  expect(await once(child, "close")).toEqual([1, null]);
  expect(output().trim()).toMatch(message);
  expect(output().trim().split("\n")).toHaveLength(1);
});
