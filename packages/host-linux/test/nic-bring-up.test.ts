import { expect, test } from "vitest";
import { Namespace, Resident } from "./support/namespace.ts";

const FIRST = "02:00:00:00:00:11";
const SECOND = "02:00:00:00:00:12";

async function addNIC(namespace: Namespace, name: string, mac: string): Promise<void> {
  await namespace.ip("link", "add", name, "address", mac, "type", "ifb");
}

const isUp = async (host: Resident, name: string): Promise<boolean | undefined> =>
  (await host.call("getLink", name))?.up;

test("NICs are found by MAC, in the order asked for, and set up", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  await addNIC(namespace, "eth1", FIRST);
  await addNIC(namespace, "eth2", SECOND);
  await addNIC(namespace, "eth3", "02:00:00:00:00:13");
  expect(await host.call("bringUpLinksByMAC", [SECOND.toUpperCase(), FIRST], 10_000)).toEqual([
    "eth2",
    "eth1",
  ]);
  expect(await isUp(host, "eth1")).toBe(true);
  expect(await isUp(host, "eth2")).toBe(true);
  expect(await isUp(host, "eth3")).toBe(false);
  expect(await host.call("bringUpLinksByMAC", [FIRST], 10_000)).toEqual(["eth1"]);
});

test("a NIC that is plugged in late is waited for", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  await addNIC(namespace, "eth1", FIRST);
  const waiting = host.call("bringUpLinksByMAC", [FIRST, SECOND], 30_000);
  await expect.poll(() => isUp(host, "eth1")).toBe(true);
  await addNIC(namespace, "eth2", SECOND);
  expect(await waiting).toEqual(["eth1", "eth2"]);
  expect(await isUp(host, "eth2")).toBe(true);
});

test("a NIC that never comes is named after the deadline, and the others are up", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  await addNIC(namespace, "eth1", FIRST);
  await expect(host.call("bringUpLinksByMAC", [FIRST, SECOND], 300)).rejects.toMatchObject({
    code: "unavailable",
    message: `set NICs up: no link with MAC ${SECOND} within 300 ms`,
    hint: expect.stringContaining("attached"),
  });
  expect(await isUp(host, "eth1")).toBe(true);
});

test("a bridge that shares the MAC of its port is not taken for the NIC", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  await addNIC(namespace, "eth1", FIRST);
  await namespace.ip("link", "add", "br1", "address", FIRST, "type", "bridge");
  expect(await host.call("bringUpLinksByMAC", [FIRST], 10_000)).toEqual(["eth1"]);
  expect(await isUp(host, "br1")).toBe(false);
});

test("a malformed MAC is refused before anything is done", async () => {
  await using namespace = await Namespace.create();
  await using host = new Resident(namespace);
  await expect(host.call("bringUpLinksByMAC", ["02:00:00:00:00"], 10_000)).rejects.toMatchObject({
    code: "invalid",
  });
});
