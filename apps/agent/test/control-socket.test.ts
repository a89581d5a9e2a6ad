import { stat } from "node:fs/promises";
import { request } from "node:http";
import { expect, it } from "vitest";
import { parseDhcpConfig } from "../src/dhcp-config.ts";
import { AgentNode } from "./support/agent-node.ts";
import { until } from "./support/command.ts";

/** One request over the node's control socket. */
function ask(socketPath: string, method: string, path: string, body?: unknown): Promise<[number, unknown]> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () =>
        resolve([response.statusCode ?? 0, text === "" ? undefined : JSON.parse(text)]),
      );
    });
    asked.on("error", reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

it("the VM engine tells which VM a lease is of, and ends it with the VM; the config file says what guests are told", {
  timeout: 180_000,
}, async () => {
  await using node = await AgentNode.create();
  await node.adopt("--subnet", "10.99.0.0/24");
  const guest = await node.guest();
  await node.write(
    "config.yaml",
    [
      "dhcp:",
      "  leaseTime: 1h",
      "  options: { domain: vms.example, ntp: [10.99.0.1] }",
      "  reservations:",
      `    - { mac: "${guest.mac}", address: 10.99.0.77 }`,
    ].join("\n"),
  );
  node.env.COCOON_NET_CONFIG = node.path("config.yaml");
  const daemon = await node.daemon();
  const socket = node.path("state/control.sock");
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  expect(await ask(socket, "PUT", "/vms/vm-1", { mac: guest.mac.toUpperCase() })).toEqual([200, {}]);
  expect(await ask(socket, "PUT", "/vms/vm-1", { mac: "x" })).toEqual([
    400,
    { error: expect.stringContaining("52:54:00") },
  ]);
  expect((await ask(socket, "GET", "/vms"))[0]).toBe(404);
  expect((await ask(socket, "POST", "/vms/vm-1"))[0]).toBe(405);

  expect(await guest.boot()).toBe("10.99.0.77");
  expect(await ask(socket, "GET", "/leases")).toMatchObject([
    200,
    [{ ip: "10.99.0.77", mac: guest.mac, vmID: "vm-1", node: "n1" }],
  ]);
  const [, leases] = (await ask(socket, "GET", "/leases")) as [number, { expiry: string }[]];
  expect(Date.parse(leases[0]?.expiry ?? "") - Date.now()).toBeLessThanOrEqual(3_602_000);

  expect(await ask(socket, "DELETE", "/vms/vm-1")).toEqual([200, {}]);
  await until("the lease's end", async () => (await node.leases()).length === 0);
  await until("the route's end", async () => (await node.routes()).length === 0);

  // What the program before this one has: by MAC, and done whether there is a lease or not.
  expect(await guest.boot()).toBe("10.99.0.77");
  expect((await ask(socket, "GET", `/v1/leases/${guest.mac}`))[0]).toBe(404);
  expect((await ask(socket, "DELETE", "/v1/leases/x"))[0]).toBe(400);
  expect((await ask(socket, "DELETE", "/v1/leases/%zz"))[0]).toBe(400);
  const byMac = `/v1/leases/${encodeURIComponent(guest.mac.toUpperCase())}`;
  expect(await ask(socket, "DELETE", byMac)).toEqual([204, undefined]);
  expect([await ask(socket, "GET", "/leases"), await node.routes()]).toEqual([[200, []], []]);
  expect(await ask(socket, "DELETE", byMac)).toEqual([204, undefined]);
  // A crash leaves the file; the next daemon takes its place.
  await daemon.kill("SIGKILL");
  await node.daemon();
  expect(await ask(socket, "GET", "/leases")).toEqual([200, []]);
});

it("a DHCP setting that cannot be is refused with its place", () => {
  const wrong: Record<string, [unknown, RegExp]> = {
    unknown: [{ leases: 1 }, /^c\.yaml:3: "dhcp" is wrong: .*leases/],
    duration: [{ coolDown: "soon" }, /"dhcp\.coolDown" is wrong: "soon" is not a duration/],
    option: [{ options: { mtu: 1 } }, /^c\.yaml:3: dhcp\.options: mtu/],
    reserved: [
      { reservations: [{ mac: "52:54:00:ab:cd:ef", address: "10.0.0.300" }] },
      /"dhcp\.reservations\.0\.address" is wrong/,
    ],
    nested: [
      { reservations: [{ options: { raw: { 53: "hex 01" } } }] },
      /dhcp\.reservations\.0\.options.*53/,
    ],
    rate: [{ limits: { total: { perSecond: 0, burst: 1 } } }, /"dhcp\.limits\.total\.perSecond" is wrong/],
  };
  for (const [value, message] of Object.values(wrong)) {
    expect(() => parseDhcpConfig(value, "c.yaml:3")).toThrow(message);
  }
  expect(parseDhcpConfig(undefined, "c.yaml:3")).toMatchObject({});
});
