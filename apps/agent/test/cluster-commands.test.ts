import { isDeepStrictEqual } from "node:util";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { until } from "./support/command.ts";
import { Hub } from "./support/hub.ts";

it("the cluster's commands create it once and show what is in it, for people and for programs", {
  timeout: 180_000,
}, async () => {
  await using hub = await Hub.create();
  const url = await hub.call("startServer", "redis");
  const node = await hub.node();
  const store = ["--store", url];
  const init = ["cluster", "init", ...store, "--parent-cidr", "10.64.0.0/16", "--platform", "gke"];
  expect(await node.run("cluster", "init", ...store, "--parent-cidr", "10.64.0.1/16")).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^cocoon-net: .*10\.64\.0\.1\/16.*\n$/),
  });
  expect(await node.do(...init, "--lease-time", "2h", "--reserve", "10.64.0.0/24")).toMatch(
    /^cluster in redis:.*: 10\.64\.0\.0\/16 in \/24 subnets on gke\n$/,
  );
  // Again: the same, or less, is fine; something else is refused and changes nothing.
  await node.do(...init, "--lease-time", "120m");
  await node.do(...init);
  expect(await node.run(...init, "--lease-time", "1h")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /^cocoon-net: the cluster in .* exists already with leaseMs 7200000, not 3600000; .*\n$/,
    ),
  });

  // The first slot is reserved.
  await node.adopt(...store, "--node-name", "n-1");
  const second = await hub.node();
  const answer = async (...args: string[]): Promise<[code: unknown, told: string]> => {
    const { code, stderr } = await second.run(
      ...second.setUpArgs("adopt", ...store, "--node-name", "n-2", ...args),
    );
    expect(stderr.match(/\n/g)).toHaveLength(1);
    return [code, stderr];
  };
  const refused = async (...args: string[]): Promise<string> => {
    const [code, told] = await answer(...args);
    expect(code).toBe(1);
    return told;
  };
  expect(await refused("--subnet", "10.65.0.0/24")).toMatch(/10\.65\.0\.0\/24 is outside .*10\.64\.0\.0\/16/);
  expect(await refused("--subnet", "10.64.0.0/23")).toMatch(
    /10\.64\.0\.0\/24.*reserved|reserved.*10\.64\.0\.0\/24/,
  );
  expect(await refused("--subnet", "10.64.1.0/24")).toMatch(
    /overlaps 10\.64\.1\.0\/24, which belongs to node n-1/,
  );
  expect(await refused("--node-name", "n-1")).toMatch(/node name "n-1" is registered by/);
  expect(await answer("--node-name", "no/slash")).toEqual([
    2,
    expect.stringMatching(/"no\/slash" is not a host name/),
  ]);
  // What a dry run says is what would happen: nothing of a block that it could not have, and its own one to a node.
  expect(await refused("--dry-run", "--subnet", "10.65.0.0/24")).toMatch(/10\.65\.0\.0\/24 is outside/);
  expect(await node.do(...node.setUpArgs("adopt", ...store, "--node-name", "n-1", "--dry-run"))).toMatch(
    /^subnet: 10\.64\.1\.0\/24$/m,
  );
  await second.adopt(...store, "--node-name", "n-2", "--subnet", "10.64.9.0/24");

  const daemon = await node.daemon(...store);
  await daemon.says("the subnet is ours");
  const guest = await node.guest();
  const address = await guest.boot();
  expect(address).toMatch(/^10\.64\.1\./);
  await daemon.says("lease granted");

  const show = (name: string, format: string): Promise<string> =>
    node.do("cluster", name, ...store, "-o", format);
  const json = async (name: string): Promise<Record<string, unknown>[]> =>
    JSON.parse(await show(name, "json")) as Record<string, unknown>[];
  await expect.poll(async () => (await json("leases")).length, { timeout: 60_000 }).toBe(1);
  expect(await json("leases")).toMatchObject([{ address, node: "n-1", mac: guest.mac }]);
  expect(await json("nodes")).toMatchObject([
    { node: "n-1", status: "ready", alive: true, subnet: "10.64.1.0/24", epoch: expect.any(Number) },
    { node: "n-2", status: "ready", alive: false, subnet: "10.64.9.0/24" },
  ]);
  expect(await json("subnets")).toMatchObject([
    { slot: "10.64.1.0/24", state: "owned", node: "n-1" },
    { slot: "10.64.9.0/24", state: "owned", node: "n-2" },
  ]);
  expect((await json("events")).map(({ type, node: who }) => `${type} ${who}`)).toEqual([
    "node-registered n-1",
    "node-registered n-2",
  ]);
  // The node may say something new between the two looks.
  await Promise.all(
    ["nodes", "subnets", "leases", "events"].map((name) =>
      until(`the same ${name} in YAML`, async () => {
        const [yaml, rows] = await Promise.all([show(name, "yaml"), json(name)]);
        return isDeepStrictEqual(parse(yaml), rows);
      }),
    ),
  );
  expect(await show("nodes", "table")).toMatch(
    /^NODE +STATUS +SUBNET .*\nn-1 +ready +10\.64\.1\.0\/24 .*\nn-2 +ready \(silent\)/,
  );
  expect(await show("subnets", "table")).toMatch(/2 of 256 \/24 of 10\.64\.0\.0\/16 in use\n$/);
  expect(await show("leases", "table")).toMatch(
    new RegExp(`^ADDRESS .*\\n${address} +n-1 +${guest.mac} .*1h`),
  );
  expect(await show("events", "table")).toContain("owns 10.64.9.0/24");
  expect(await node.do("cluster", "leases", ...store, "--node", "n-2", "-o", "json")).toBe("[]\n");
  // The address may also come from the environment, and an empty one is none.
  node.env.COCOON_NET_STORE = url;
  await until("the same nodes", async () => {
    return (await node.do("cluster", "nodes", "-o", "json")) === (await show("nodes", "json"));
  });
  node.env.COCOON_NET_STORE = "";
  expect((await node.run("cluster", "nodes")).code).toBe(2);
});
