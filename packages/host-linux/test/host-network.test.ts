import { DisposeStack } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { connect, Namespace, Resident } from "./support/namespace.ts";

async function inNamespace(): Promise<AsyncDisposable & { namespace: Namespace; host: Resident }> {
  await using stack = new DisposeStack();
  const namespace = stack.use(await Namespace.create());
  const host = stack.use(new Resident(namespace));
  const world = stack.move();
  return { namespace, host, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

const MAC = "02:c0:ac:14:64:01";

test("bridge, address, route and neighbour are the same after a second run", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  const apply = async (): Promise<unknown[]> => [
    await host.call("ensureBridge", "cni0", MAC),
    await host.call("network", "ensureAddress", "172.20.100.1/24", "cni0"),
    await host.call("network", "setLinkUp", "cni0"),
    await host.call("network", "replaceHostRoute", "172.20.100.7", "cni0"),
    await host.call("network", "replaceHostRoute", "10.9.8.7", "cni0"),
    await host.call("network", "replaceNeighbour", "172.20.100.7", "52:54:00:AB:cd:ef", "cni0"),
  ];
  expect(await apply()).toEqual([true, true, true, undefined, undefined, undefined]);
  const first = await namespace.snapshot();
  expect(first).toContain("172.20.100.7");
  expect(await apply()).toEqual([false, false, false, undefined, undefined, undefined]);
  expect(await namespace.snapshot()).toBe(first);

  expect(await host.call("getLink", "cni0")).toMatchObject({ kind: "bridge", mac: MAC, up: true });
  expect(await host.call("network", "listAddresses", "cni0")).toEqual(["172.20.100.1/24"]);
  expect(await host.call("network", "listHostRoutes", "cni0")).toEqual(["10.9.8.7", "172.20.100.7"]);
  const [route] = JSON.parse(await namespace.ip("-j", "route", "show", "172.20.100.7"));
  expect(route).toMatchObject({ dev: "cni0", scope: "link", flags: ["linkdown"] });
  const [neighbour] = JSON.parse(await namespace.ip("-j", "neigh", "show", "172.20.100.7"));
  expect(neighbour).toMatchObject({ dev: "cni0", lladdr: "52:54:00:ab:cd:ef", state: ["STALE"] });
});

test("the address carries the broadcast address that iproute2 would give it", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "ensureAddress", "172.20.100.1/25", "cni0");
  const [link] = JSON.parse(await namespace.ip("-j", "-4", "address", "show", "dev", "cni0"));
  expect(link.addr_info[0]).toMatchObject({
    local: "172.20.100.1",
    prefixlen: 25,
    broadcast: "172.20.100.127",
  });
});

test("a gateway with another prefix length is replaced, other addresses stay", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await namespace.ip("address", "add", "172.20.100.1/16", "dev", "cni0");
  await namespace.ip("address", "add", "10.1.1.1/24", "dev", "cni0");
  expect(await host.call("network", "ensureAddress", "172.20.100.1/24", "cni0")).toBe(true);
  expect(await host.call("network", "listAddresses", "cni0")).toEqual(["10.1.1.1/24", "172.20.100.1/24"]);
});

test("deleting what is not there says so and is no error", async () => {
  await using world = await inNamespace();
  const { host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  await host.call("network", "replaceHostRoute", "10.0.0.7", "cni0");
  await host.call("network", "replaceNeighbour", "10.0.0.7", "52:54:00:ab:cd:ef", "cni0");
  await host.call("network", "ensureAddress", "10.0.0.1/24", "cni0");
  for (const found of [true, false]) {
    expect(await host.call("network", "deleteHostRoute", "10.0.0.7", "cni0")).toBe(found);
    expect(await host.call("network", "deleteNeighbour", "10.0.0.7", "cni0")).toBe(found);
    expect(await host.call("network", "deleteAddress", "10.0.0.1/24", "cni0")).toBe(found);
  }
  for (const found of [true, false]) expect(await host.call("network", "deleteLink", "cni0")).toBe(found);
  expect(await host.call("network", "deleteHostRoute", "10.0.0.7", "cni0")).toBe(false);
  expect(await host.call("network", "deleteNeighbour", "10.0.0.7", "cni0")).toBe(false);
});

test("only /32 routes to the device in the main table are listed, and only the named one is deleted", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "ensureAddress", "172.20.100.1/24", "cni0");
  await host.call("network", "setLinkUp", "cni0");
  await namespace.ip("link", "add", "other0", "type", "ifb");
  await namespace.ip("link", "set", "other0", "up");
  await namespace.ip("route", "add", "172.20.101.9/32", "dev", "other0");
  await namespace.ip("route", "add", "172.20.102.0/30", "dev", "cni0");
  await namespace.ip("route", "add", "172.20.103.9/32", "via", "172.20.100.9", "dev", "cni0");
  await namespace.ip("route", "add", "172.20.104.9/32", "dev", "cni0", "table", "77");
  await namespace.ip("route", "add", "172.20.105.9/32", "dev", "cni0", "proto", "static");
  expect(await host.call("network", "listHostRoutes", "cni0")).toEqual(["172.20.105.9"]);
  expect(await host.call("network", "deleteHostRoute", "172.20.101.9", "cni0")).toBe(false);
  expect(await host.call("network", "deleteHostRoute", "172.20.105.9", "cni0")).toBe(true);
  expect(await namespace.ip("route", "show", "table", "all")).toContain("172.20.101.9 dev other0");
});

test("an address that moves to another MAC gets the new neighbour entry", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  await host.call("network", "replaceNeighbour", "10.0.0.7", "52:54:00:00:00:01", "cni0");
  await host.call("network", "replaceNeighbour", "10.0.0.7", "52:54:00:00:00:02", "cni0");
  expect(await namespace.ip("neigh", "show", "10.0.0.7")).toMatch(/lladdr 52:54:00:00:00:02 STALE/);
});

test("routes go to the bridge that has the name now, also after it was made anew", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  await host.call("network", "replaceHostRoute", "10.0.0.7", "cni0");
  await namespace.ip("link", "del", "cni0");
  await namespace.ip("link", "add", "cni0", "type", "bridge");
  await namespace.ip("link", "set", "cni0", "up");
  await namespace.ip("route", "add", "10.0.0.8/32", "dev", "cni0");
  expect(await host.call("network", "deleteHostRoute", "10.0.0.8", "cni0")).toBe(true);
  await host.call("network", "replaceHostRoute", "10.0.0.7", "cni0");
  expect(await host.call("network", "listHostRoutes", "cni0")).toEqual(["10.0.0.7"]);
});

test("a fixed MAC stays when ports join", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await connect({ namespace, name: "v0" }, { namespace, name: "v1" });
  await namespace.ip("link", "set", "v0", "address", "02:00:00:00:00:01");
  await namespace.ip("link", "set", "v0", "master", "cni0");
  expect(await host.call("getLink", "cni0")).toMatchObject({ mac: MAC });
});

test("errors name the operation, the object and what the kernel said", async () => {
  await using world = await inNamespace();
  const { namespace, host } = world;
  await expect(host.call("network", "replaceHostRoute", "10.0.0.7", "cni0")).rejects.toMatchObject({
    code: "not-found",
    message: "add route 10.0.0.7/32 dev cni0: there is no link named cni0",
  });
  await host.call("ensureBridge", "cni0", MAC);
  await expect(host.call("network", "replaceHostRoute", "10.0.0.7", "cni0")).rejects.toMatchObject({
    code: "kernel",
    message: "add route 10.0.0.7/32 dev cni0: ENETDOWN (Device for nexthop is not up)",
  });
  await namespace.ip("link", "add", "cni1", "type", "ifb");
  await expect(host.call("ensureBridge", "cni1", MAC)).rejects.toMatchObject({
    code: "conflict",
    message: "create bridge cni1: the name belongs to a ifb link",
  });
  await expect(host.call("network", "replaceHostRoute", "10.0.0", "cni0")).rejects.toMatchObject({
    code: "invalid",
  });
  await expect(host.call("network", "setLinkUp", "a name far too long")).rejects.toMatchObject({
    code: "invalid",
  });
  await host.call("becomeNobody");
  await expect(host.call("ensureBridge", "cni2", MAC)).rejects.toMatchObject({
    code: "auth",
    message: "create bridge cni2: EPERM",
    hint: "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
  });
});

test("disposing settles what is under way, and an aborted call changes nothing", async () => {
  await using world = await inNamespace();
  expect(await world.host.call("disposeWhileBusy")).toBe("unavailable");
  expect(await world.host.call("abortedCall")).toBe("AbortError");
});

test("1,000 routes go in at once while the table is being listed", async () => {
  await using world = await inNamespace();
  const { host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  const addresses = Array.from({ length: 1_000 }, (_, i) => `10.1.${i >> 8}.${i & 255}`);
  const ms = await host.call("addRoutes", addresses, "cni0");
  console.log(`1,000 host routes in ${ms.toFixed(0)} ms (${(1e6 / ms).toFixed(0)}/s)`);
  expect(await host.call("network", "listHostRoutes", "cni0")).toEqual(addresses);
});

test("many routes go in together, also on a bridge made anew; what fails is named one by one", async () => {
  await using world = await inNamespace();
  const { host } = world;
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  const addresses = Array.from({ length: 300 }, (_, i) => `10.2.${i >> 8}.${i & 255}`);
  const listed = (): Promise<unknown> => host.call("network", "listHostRoutes", "cni0");
  await host.call("network", "replaceHostRoute", "10.1.0.1", "cni0");
  expect(await host.call("replaceHostRoutes", addresses, "cni0")).toEqual({});
  expect(await listed()).toEqual(["10.1.0.1", ...addresses]);

  await host.call("network", "deleteLink", "cni0");
  await host.call("ensureBridge", "cni0", MAC);
  await host.call("network", "setLinkUp", "cni0");
  expect(await host.call("replaceHostRoutes", addresses, "cni0")).toEqual({});
  expect(await listed()).toEqual(addresses);

  await host.call("network", "setLinkDown", "cni0");
  const failures = await host.call("replaceHostRoutes", addresses, "cni0");
  expect(Object.keys(failures).toSorted()).toEqual(addresses.toSorted());
  expect(failures["10.2.0.7"]).toMatch(/^add route 10\.2\.0\.7\/32 dev cni0: ENETDOWN/);
});
