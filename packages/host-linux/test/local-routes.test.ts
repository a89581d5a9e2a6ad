import { expect, test } from "vitest";
import { Namespace, Resident } from "./support/namespace.ts";

test("local routes that are stale go, whatever their protocol; the kernel's own and other devices' stay", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  for (const nic of ["ens4", "ens5"]) {
    await namespace.ip("link", "add", nic, "type", "veth", "peer", "name", `${nic}p`);
    await namespace.ip("link", "set", nic, "up");
  }
  await namespace.ip("address", "add", "10.128.0.5/32", "dev", "ens4");
  const local = async (): Promise<string[]> => {
    const text = await namespace.ip("-j", "-4", "route", "show", "table", "local");
    const routes = JSON.parse(text) as { dst: string; dev: string; type: string }[];
    return routes.filter(({ dev }) => dev !== "lo").map(({ type, dst, dev }) => `${type} ${dst} ${dev}`);
  };
  const add = (dst: string, nic: string, ...more: string[]): Promise<string> =>
    namespace.ip("route", "add", "local", dst, "dev", nic, "table", "local", ...more);
  await add("172.20.7.0/24", "ens4", "proto", "66");
  await add("172.20.9.9/32", "ens4");
  await add("172.20.8.0/24", "ens4", "proto", "66");
  await add("172.20.9.0/24", "ens5", "proto", "66");
  await namespace.ip("route", "add", "172.20.7.0/24", "dev", "ens5");

  // The last one is an address that the NIC has: the kernel made its route.
  const stale = ["172.20.7.0/24", "172.20.9.9", "172.20.9.0/24", "10.128.0.5"];
  const deleted = await host.call("deleteLocalRoutes", "ens4", stale);
  expect(deleted).toEqual(stale.slice(0, 2).map((dst) => ({ type: "local", dst, dev: "ens4" })));
  expect(await local()).toEqual([
    "local 10.128.0.5 ens4",
    "local 172.20.8.0/24 ens4",
    "local 172.20.9.0/24 ens5",
  ]);
  expect(await namespace.ip("route", "show", "172.20.7.0/24")).toContain("ens5");
  expect(await host.call("deleteLocalRoutes", "ens4", stale)).toEqual([]);
  expect(await host.call("deleteLocalRoutes", "ens9", stale)).toEqual([]);
});
