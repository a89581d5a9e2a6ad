import { DisposeStack } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { connect, forwards, Namespace, Resident } from "./support/namespace.ts";

const GUEST_MAC = "52:54:00:00:00:07";

/** A bridge with two isolated ports; a guest with a static address behind the first. */
async function bridgeWithGuest(): Promise<AsyncDisposable & { node: Namespace; server: Resident }> {
  await using stack = new DisposeStack();
  const node = stack.use(await Namespace.create());
  const guest = stack.use(await Namespace.create());
  const other = stack.use(await Namespace.create());
  const server = stack.use(new Resident(node));
  await server.call("ensureBridge", "cni0", "02:c0:ac:14:64:01");
  await server.call("network", "ensureAddress", "172.20.100.1/24", "cni0");
  await server.call("network", "setLinkUp", "cni0");
  await connect({ namespace: node, name: "port0" }, { namespace: guest, name: "eth0" });
  await connect({ namespace: node, name: "port1" }, { namespace: other, name: "eth0" });
  for (const port of ["port0", "port1"]) {
    await node.ip("link", "set", port, "master", "cni0", "up");
    await node.ip("link", "set", port, "type", "bridge_slave", "isolated", "on");
  }
  await guest.ip("link", "set", "eth0", "down");
  await guest.ip("link", "set", "eth0", "address", GUEST_MAC, "up");
  await guest.ip("address", "add", "172.20.100.7/24", "dev", "eth0");
  await forwards(node, "port0");
  const world = stack.move();
  return { node, server, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

test("a probe finds the guest that uses an address, and nobody where there is none, in 500 ms at most", async () => {
  await using world = await bridgeWithGuest();
  const { server } = world;
  const used = await server.call("probe", "cni0", ["172.20.100.7"]);
  expect(used.users).toEqual([GUEST_MAC]);
  const mixed = await server.call("probe", "cni0", ["172.20.100.8", "172.20.100.7", "172.20.100.8"]);
  expect(mixed.users).toEqual([null, GUEST_MAC, null]);
  expect(mixed.ms).toBeGreaterThan(300);
  // The kernel learned nothing from the questions.
  expect(await world.node.ip("neigh", "show", "172.20.100.8")).toBe("");
  await expect(server.call("probe", "nolink0", ["172.20.100.7"])).rejects.toMatchObject({
    code: "not-found",
  });
});

test("the bridge's forwarding table tells the port of a guest", async () => {
  await using world = await bridgeWithGuest();
  const { node, server } = world;
  await server.call("probe", "cni0", ["172.20.100.7"]); // so that the bridge has heard the guest
  const [port] = JSON.parse(await node.ip("-j", "link", "show", "port0"));
  const found = await server.call("portsOf", "cni0", [
    GUEST_MAC,
    "52:54:00:00:00:99",
    GUEST_MAC.toUpperCase(),
  ]);
  expect(found).toEqual([String(port.ifindex), null, String(port.ifindex)]);
  await expect(server.call("portsOf", "nolink0", [])).rejects.toMatchObject({ code: "not-found" });
  await expect(server.call("portsOf", "port1", [])).rejects.toThrow("port1");
});
