import { DisposeStack } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { connect, eventually, forwards, Namespace, Resident } from "./support/namespace.ts";

const GUEST_MAC = "52:54:00:00:00:07";

/** A node with a bridge, and a guest without an address behind one of its ports. */
async function nodeAndGuest(): Promise<
  AsyncDisposable & { node: Namespace; guest: Namespace; server: Resident; client: Resident }
> {
  await using stack = new DisposeStack();
  const node = stack.use(await Namespace.create());
  const guest = stack.use(await Namespace.create());
  const server = stack.use(new Resident(node));
  const client = stack.use(new Resident(guest));
  await server.call("ensureBridge", "cni0", "02:c0:ac:14:64:01");
  await server.call("network", "ensureAddress", "172.20.100.1/24", "cni0");
  await server.call("network", "setLinkUp", "cni0");
  await connect({ namespace: node, name: "port0" }, { namespace: guest, name: "eth0" });
  await node.ip("link", "set", "port0", "master", "cni0");
  await guest.ip("link", "set", "eth0", "down");
  await guest.ip("link", "set", "eth0", "address", GUEST_MAC, "up");
  await forwards(node, "port0");
  const world = stack.move();
  return { node, guest, server, client, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

const packetOf = (resident: Resident, text: string): Promise<{ address: string; port: number }> =>
  eventually(`packet "${text}"`, async () =>
    (await resident.call("packets")).find((packet) => packet.text === text),
  );

const noticed = (server: Resident, times: number): Promise<unknown> =>
  eventually(`the link was back ${times} times`, async () =>
    (await server.call("linksBack")) >= times ? true : undefined,
  );

test("a broadcast of a guest without an address is heard and answered from the gateway's address", async () => {
  await using world = await nodeAndGuest();
  const { guest, server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  await client.call("send", "eth0", "discover", "255.255.255.255", 67);
  expect(await packetOf(server, "discover")).toMatchObject({ address: "0.0.0.0", port: 68 });

  await server.call("send", "cni0", "broadcast offer", "255.255.255.255", 68);
  expect(await packetOf(client, "broadcast offer")).toMatchObject({ address: "172.20.100.1", port: 67 });

  // The guest takes packets for this address but answers no ARP: only the neighbour entry can get one through.
  await guest.ip("link", "set", "eth0", "arp", "off");
  await guest.ip("address", "add", "172.20.100.7/24", "dev", "eth0");
  await server.call("network", "replaceNeighbour", "172.20.100.7", GUEST_MAC, "cni0");
  await server.call("send", "cni0", "unicast offer", "172.20.100.7", 68);
  expect(await packetOf(client, "unicast offer")).toMatchObject({ address: "172.20.100.1", port: 67 });
  expect(await server.call("socketErrors")).toEqual([]);
});

test("an address outside the bridge's subnet is answered by its host route, from the gateway's address", async () => {
  await using world = await nodeAndGuest();
  const { guest, server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  await guest.ip("address", "add", "172.20.7.7/32", "dev", "eth0");
  await server.call("network", "replaceHostRoute", "172.20.7.7", "cni0");
  await server.call("network", "replaceNeighbour", "172.20.7.7", GUEST_MAC, "cni0");
  await server.call("send", "cni0", "moved", "172.20.7.7", 68);
  expect(await packetOf(client, "moved")).toMatchObject({ address: "172.20.100.1", port: 67 });
});

test("what arrives on another device is not heard", async () => {
  await using world = await nodeAndGuest();
  await using stranger = await Namespace.create();
  await using outside = new Resident(stranger);
  const { node, server, client } = world;
  await connect({ namespace: node, name: "eth9" }, { namespace: stranger, name: "eth0" });
  await server.call("openSocket", "cni0", 67);
  await outside.call("openSocket", "eth0", 68);
  await client.call("openSocket", "eth0", 68);
  // A witness on eth9 shows that the packet of the stranger has arrived on the node.
  await server.call("openSocket", "eth9", 67);
  await outside.call("send", "eth0", "from outside", "255.255.255.255", 67);
  await packetOf(server, "from outside");
  await client.call("send", "eth0", "from the guest", "255.255.255.255", 67);
  await packetOf(server, "from the guest");
  const heard = await server.call("packets");
  expect(heard.filter(({ text }) => text === "from outside")).toHaveLength(1);
});

test("a packet that cannot be sent is reported, and the socket lives on", async () => {
  await using world = await nodeAndGuest();
  const { node, server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  await node.ip("link", "set", "cni0", "down");
  await server.call("send", "cni0", "nobody hears", "172.20.100.7", 68);
  const errors = await eventually("an error", async () => {
    const found = await server.call("socketErrors");
    return found.length > 0 ? found : undefined;
  });
  expect(errors[0]).toMatch(/^send to 172\.20\.100\.7:68 on cni0: E[A-Z]+$/);
  await node.ip("link", "set", "cni0", "up");
  await client.call("send", "eth0", "again", "255.255.255.255", 67);
  await packetOf(server, "again");
});

test("a second server on the port is refused, whichever options it sets, and the first is named", async () => {
  await using world = await nodeAndGuest();
  const { node, server } = world;
  await using rival = new Resident(node);
  await server.call("openSocket", "cni0", 67);
  await expect(rival.call("openSocket", "cni0", 67)).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringMatching(/^UDP port 67 on cni0 is in use by resident\.ts \(pid \d+\)$/),
    hint: expect.stringContaining("stop it"),
  });
  // node:dgram sets SO_REUSEADDR when asked to share.
  const sharing = `require("node:dgram").createSocket({ type: "udp4", reuseAddr: true })
    .on("error", (error) => { console.log(error.code); process.exit(); })
    .bind(67, () => { console.log("bound"); process.exit(); });`;
  expect(await node.exec(process.execPath, "-e", sharing)).toBe("EADDRINUSE\n");
  await server.call("closeSocket", "cni0");
  await rival.call("openSocket", "cni0", 67);
});

test("a server that listens on all devices is in the way", async () => {
  await using world = await nodeAndGuest();
  const { node, server } = world;
  await using other = await node.serve(
    process.execPath,
    "-e",
    `require("node:dgram").createSocket({ type: "udp4", reuseAddr: true }).bind(67, () => console.log("ready"))`,
  );
  await expect(server.call("openSocket", "cni0", 67)).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringContaining(`(pid ${other.pid})`),
  });
});

test("missing device and missing privilege are said in one line", async () => {
  await using world = await nodeAndGuest();
  const { server } = world;
  await expect(server.call("openSocket", "cni7", 67)).rejects.toMatchObject({
    code: "not-found",
    message: "listen on UDP port 67 on cni7: there is no link named cni7",
  });
  await server.call("becomeNobody");
  await expect(server.call("openSocket", "cni0", 67)).rejects.toMatchObject({
    code: "auth",
    message: expect.stringMatching(/^listen on UDP port 67 on cni0: (EPERM|EACCES)$/),
    hint: expect.stringContaining("run as root"),
  });
});

test("50 rounds of opening and closing leave no descriptor behind", async () => {
  await using world = await nodeAndGuest();
  const { before, after } = await world.server.call("descriptorsAfterCycles", "cni0", 50);
  expect(after).toBe(before);
});

test("a bridge that is deleted and made anew is heard again, and said to be new", async () => {
  await using world = await nodeAndGuest();
  const { node, server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  await client.call("send", "eth0", "before", "255.255.255.255", 67);
  await packetOf(server, "before");
  expect(await server.call("linksBack")).toBe(0);
  await node.ip("link", "del", "cni0");
  await server.call("ensureBridge", "cni0", "02:c0:ac:14:64:01");
  await server.call("network", "ensureAddress", "172.20.100.1/24", "cni0");
  await server.call("network", "setLinkUp", "cni0");
  await node.ip("link", "set", "port0", "master", "cni0");
  await noticed(server, 1);
  await eventually("the guest is heard", async () => {
    await client.call("send", "eth0", "after", "255.255.255.255", 67);
    return (await server.call("packets")).find(({ text }) => text === "after");
  });
  await eventually("the guest is answered", async () => {
    await server.call("send", "cni0", "answer", "255.255.255.255", 68);
    return (await client.call("packets")).find(({ text }) => text === "answer");
  });
});

test("a bridge is heard again that another link of its name has replaced, or whose deletion was not", async () => {
  await using world = await nodeAndGuest();
  const { node, server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  await node.ip("link", "add", "other", "type", "bridge");
  await node.ip("link", "set", "cni0", "down");
  await node.ip("link", "set", "cni0", "name", "before");
  await node.ip("link", "set", "other", "name", "cni0");
  await noticed(server, 1);
  const heard = async (text: string): Promise<void> => {
    await node.ip("link", "set", "cni0", "up");
    await node.ip("link", "set", "port0", "master", "cni0");
    await eventually("the guest is heard", async () => {
      await client.call("send", "eth0", text, "255.255.255.255", 67);
      return (await server.call("packets")).find((packet) => packet.text === text);
    });
  };
  await heard("on the other");
  const index = (await server.call("getLink", "cni0"))?.index;
  const back = await server.call("linksBack");
  const sleeping = server.call("sleep", 500);
  await node.ip("link", "del", "cni0");
  await node.ip("link", "add", "cni0", "index", String(index), "type", "bridge");
  await sleeping;
  await noticed(server, back + 1);
  await heard("on one with the same number");
});

test("a bridge that was down is said to be back when it is up, also where the kernel could not tell all", async () => {
  await using world = await nodeAndGuest();
  const { node, server } = world;
  await server.call("openSocket", "cni0", 67);
  await node.ip("link", "set", "cni0", "down");
  await node.ip("link", "set", "cni0", "alias", "changed");
  expect(await server.call("linksBack")).toBe(0);
  await node.ip("link", "set", "cni0", "up");
  await noticed(server, 1);

  // More than the socket's buffer holds, so that the kernel drops what follows.
  const much = Array.from({ length: 400 }, (_, turn) => `link set port0 alias turn${turn}\n`).join("");
  const sleeping = server.call("sleep", 500);
  await node.exec("sh", "-c", `printf '${much}link set cni0 down\nlink set cni0 up\n' | ip -batch -`);
  await sleeping;
  await noticed(server, 2);
});

test("a socket in a worker thread, which gets no signals, notices its new link too", async () => {
  await using world = await nodeAndGuest();
  const { node, server } = world;
  await server.call("openSocketInWorker", "cni0", 67);
  await node.ip("link", "del", "cni0");
  await node.ip("link", "add", "cni0", "type", "bridge");
  await noticed(server, 1);
});

test("a socket that hears nothing lets the process sleep, and leaves no listener behind", async () => {
  await using world = await nodeAndGuest();
  const { server } = world;
  await server.call("openSocket", "cni0", 67);
  await server.call("openSocket", "port0", 67);
  expect(await server.call("signalListeners")).toBe(1);
  // Once its start has been tidied up. A look a second would show.
  await expect.poll(() => server.wakeUps(1_200), { timeout: 20_000, interval: 0 }).toBe(0);
  await server.call("closeSocket", "cni0");
  expect(await server.call("signalListeners")).toBe(1);
  await server.call("closeSocket", "port0");
  expect(await server.call("signalListeners")).toBe(0);
});

test("a burst is heard and answered whole and in order", async () => {
  await using world = await nodeAndGuest();
  const { server, client } = world;
  await server.call("openSocket", "cni0", 67);
  await client.call("openSocket", "eth0", 68);
  const texts = Array.from({ length: 400 }, (_, index) => `packet ${index}`);
  await client.call("sendAll", "eth0", texts, "255.255.255.255", 67);
  await packetOf(server, "packet 399");
  expect((await server.call("packets")).map(({ text }) => text)).toEqual(texts);
  // One longer than the rest goes its own way.
  await server.call("sendAll", "cni0", [...texts, "long ".repeat(1_000)], "255.255.255.255", 68);
  await packetOf(client, "packet 399");
  await packetOf(client, "long ".repeat(1_000));
  const answers = (await client.call("packets")).map(({ text }) => text);
  expect(answers.filter((text) => !text.startsWith("long"))).toEqual(texts);
});
