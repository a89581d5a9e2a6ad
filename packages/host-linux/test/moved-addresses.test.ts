import { DisposeStack } from "@cocoon-net/core";
import type { MovedPlan } from "@cocoon-net/host-linux";
import { expect, test } from "vitest";
import { connect, forwards, Namespace, Resident } from "./support/namespace.ts";

const moved = { address: "172.20.1.10", mac: "52:54:00:00:00:0a" };
const sibling = { address: "172.20.1.11", mac: "52:54:00:00:00:0b" };
const stranger = { address: "172.20.2.20", mac: "52:54:00:00:00:14" };

interface Host {
  readonly namespace: Namespace;
  readonly resident: Resident;
  /** Of the fabric. */
  readonly port: string;
}

class World extends DisposeStack {
  readonly hosts: Host[] = [];
  #ports = 0;
  fabric: Namespace = new Namespace();

  static async create(): Promise<World> {
    const world = new World();
    world.fabric = world.use(await Namespace.create());
    await world.fabric.exec("sysctl", "-qw", "net.ipv4.ip_forward=1");
    await world.fabric.exec("sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0");
    return world;
  }

  async host(number: number): Promise<Host> {
    const namespace = this.use(await Namespace.create());
    const resident = this.use(new Resident(namespace));
    const port = `p${number}`;
    await connect({ namespace, name: "eth0" }, { namespace: this.fabric, name: port });
    await namespace.ip("address", "add", `192.0.2.${number * 4 + 2}/30`, "dev", "eth0");
    await this.fabric.ip("address", "add", `192.0.2.${number * 4 + 1}/30`, "dev", port);
    await namespace.ip("route", "add", "default", "via", `192.0.2.${number * 4 + 1}`);
    await resident.call(
      "setUpHost",
      {
        subnet: `172.20.${number}.0/24`,
        gateway: `172.20.${number}.1`,
        primaryNIC: "eth0",
        conflistPath: `/tmp/${namespace.name}.conflist`,
      },
      "iptables",
    );
    await this.fabric.ip("route", "add", `172.20.${number}.0/24`, "via", `192.0.2.${number * 4 + 2}`);
    this.defer(async () => {
      const { rm } = await import("node:fs/promises");
      await rm(`/tmp/${namespace.name}.conflist`, { force: true });
    });
    const host = { namespace, resident, port };
    this.hosts.push(host);
    return host;
  }

  /** Isolated from its neighbours, as the CNI plugin plugs guests in. */
  async guest({ namespace, resident }: Host, { address, mac }: typeof moved): Promise<Guest> {
    const own = this.use(await Namespace.create());
    const tap = `t${++this.#ports}`;
    await connect({ namespace: own, name: "eth0" }, { namespace, name: tap });
    await own.ip("link", "set", "eth0", "address", mac);
    await own.ip("address", "add", `${address}/24`, "dev", "eth0");
    await own.ip("route", "add", "default", "via", address.replace(/\d+$/, "1"));
    await plug(namespace, tap);
    await resident.call("network", "replaceHostRoute", address, "cni0");
    return { namespace: own, tap };
  }
}

interface Guest {
  readonly namespace: Namespace;
  readonly tap: string;
}

async function plug(host: Namespace, tap: string): Promise<void> {
  await host.ip("link", "set", tap, "master", "cni0");
  await host.ip("link", "set", tap, "type", "bridge_slave", "isolated", "on");
  await host.ip("link", "set", tap, "up");
  await forwards(host, tap);
}

/** Within four seconds: what guests have in their ARP caches is corrected, not waited for, which takes five. */
const answers = (from: Guest, address: string): Promise<boolean> =>
  from.namespace.exec("ping", "-n", "-c", "1", "-w", "4", address).then(
    () => true,
    () => false,
  );

test("a guest that has moved reaches everybody and is reached, by strangers and by its old neighbours", async () => {
  await using world = await World.create();
  const [home, other] = [await world.host(1), await world.host(2)];
  const guest = await world.guest(home, moved);
  const neighbour = await world.guest(home, sibling);
  const third = await world.guest(other, stranger);
  const routesOf = ({ namespace }: Host): Promise<string> =>
    namespace.ip("-4", "route", "show", "table", "all");
  const bare = [await routesOf(home), await routesOf(other)];
  expect(await answers(third, moved.address)).toBe(true);
  expect(await answers(guest, stranger.address)).toBe(true);

  await home.namespace.ip("link", "set", guest.tap, "netns", other.namespace.name);
  await plug(other.namespace, guest.tap);
  await home.resident.call("network", "deleteHostRoute", moved.address, "cni0");
  await world.fabric.ip("route", "add", moved.address, "via", "192.0.2.10");
  const none = { away: [], guests: [] };
  const away: MovedPlan = { ...none, primaryNIC: "eth0", away: [moved.address] };
  const here: MovedPlan = { ...none, guests: [{ address: moved.address, gateway: "172.20.1.1" }] };
  expect(await home.resident.call("applyMoved", away)).toEqual([
    "routed 172.20.1.10 away",
    "set sysctl net.ipv4.conf.cni0.proxy_arp=1",
  ]);
  expect(await other.resident.call("applyMoved", here)).toEqual([
    "set address 172.20.1.1/32 on cni0",
    "set sysctl net.ipv4.conf.cni0.proxy_arp=1",
    expect.stringMatching(/^added iptables rule .* 172.20.1.10\/32 .* --syn .* ACCEPT$/),
    expect.stringMatching(/^added iptables rule .* 172.20.1.10\/32 .* MASQUERADE$/),
  ]);
  expect(await home.resident.call("applyMoved", away)).toEqual([]);
  expect(await other.resident.call("applyMoved", here)).toEqual([]);
  await other.resident.call("network", "replaceHostRoute", moved.address, "cni0");
  await other.resident.call("announce", [{ address: "172.20.1.1", guest: moved }]);
  await home.resident.call("announce", [{ address: moved.address, guest: sibling }]);

  expect(await answers(third, moved.address)).toBe(true);
  expect(await answers(guest, stranger.address)).toBe(true);
  expect(await answers(guest, "172.20.1.1")).toBe(true);
  expect(await answers(neighbour, moved.address)).toBe(true);
  expect(await answers(guest, sibling.address)).toBe(true);
  expect(await home.namespace.ip("route", "get", moved.address)).toContain("via 192.0.2.5 dev eth0");

  // Home again: nothing is left on either host.
  await other.namespace.ip("link", "set", guest.tap, "netns", home.namespace.name);
  await plug(home.namespace, guest.tap);
  await world.fabric.ip("route", "del", moved.address);
  await other.resident.call("network", "deleteHostRoute", moved.address, "cni0");
  await other.resident.call("applyMoved", none);
  await home.resident.call("applyMoved", none);
  await home.resident.call("network", "replaceHostRoute", moved.address, "cni0");
  await home.resident.call("announce", [{ address: "172.20.1.1", guest: moved }]);
  expect(await answers(third, moved.address)).toBe(true);
  expect(await answers(guest, stranger.address)).toBe(true);
  for (const [index, host] of [home, other].entries()) {
    expect((await routesOf(host)).split("\n").toSorted()).toEqual((bare[index] ?? "").split("\n").toSorted());
    expect(await host.namespace.exec("iptables", "-t", "nat", "-S")).not.toContain("cocoon-net-moved");
    expect(await host.namespace.exec("sysctl", "-n", "net.ipv4.conf.cni0.proxy_arp")).toBe("0\n");
  }
});

test("what a crash has left goes, and what others have made stays", async () => {
  await using world = await World.create();
  const host = await world.host(1);
  const { namespace, resident } = host;
  await namespace.ip("route", "add", "172.20.1.77/32", "via", "192.0.2.5");
  await resident.call("applyMoved", {
    away: ["172.20.1.5", "172.20.1.6"],
    guests: [{ address: "172.20.9.9", gateway: "172.20.9.1" }],
  });
  const changes = await resident.call("applyMoved", { away: ["172.20.1.6"], guests: [] });
  expect(changes.slice(0, 2)).toEqual([
    "routed 172.20.1.5 here again",
    "removed address 172.20.9.1/32 from cni0",
  ]);
  expect(await namespace.ip("route", "show", "172.20.1.6")).toContain("via 192.0.2.5 dev eth0");
  await resident.call("applyMoved", { away: [], guests: [] });
  expect(await namespace.ip("route", "show", "172.20.1.6")).toBe("");
  expect(await namespace.ip("route", "show", "172.20.1.77")).toContain("via 192.0.2.5");
  await namespace.ip("route", "del", "default");
  await expect(resident.call("applyMoved", { away: ["172.20.1.5"], guests: [] })).rejects.toMatchObject({
    code: "not-found",
    message: expect.stringMatching(/there is no default route with a gateway$/),
  });
  await namespace.ip("link", "del", "cni0");
  expect(await resident.call("applyMoved", { away: [], guests: [] })).toEqual([]);
});
