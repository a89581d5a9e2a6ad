import { rm } from "node:fs/promises";
import { DisposeStack } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import type { AgentNode } from "./support/agent-node.ts";
import { until } from "./support/command.ts";
import { Hub } from "./support/hub.ts";

const parent = ["--parent-cidr", "172.20.0.0/16"];
const ttl = ["--session-ttl", "3s"];

interface World extends AsyncDisposable {
  readonly hub: Hub;
  readonly url: string;
  /** Adopted: the first node of the cluster, or a later one. */
  node(name: string, ...more: readonly string[]): Promise<AgentNode>;
}

async function world(kind: "etcd" | "redis"): Promise<World> {
  await using parts = new DisposeStack();
  const hub = parts.use(await Hub.create());
  const url = await hub.call("startServer", kind);
  const owned = parts.move();
  return {
    hub,
    url,
    async node(name, ...more) {
      const node = await hub.node();
      await node.adopt("--node-name", name, "--store", url, ...more);
      return node;
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

interface Lease {
  readonly node: string;
  readonly mac: string;
  readonly expiry: string;
  readonly seq: number;
}

async function mirrored(hub: Hub): Promise<Record<string, Lease>> {
  const pool = await hub.call("list", "pool/");
  return Object.fromEntries(
    Object.entries(pool).map(([key, value]) => [key.slice(5), JSON.parse(value) as Lease]),
  );
}

function isMirrored(hub: Hub, address: string, mac: string | undefined): Promise<true> {
  return until(`${address} in the store to be ${mac}`, async () => {
    return (await mirrored(hub))[address]?.mac === mac;
  });
}

/** What a node with a store does; the test files run it on each store. */
export function clusterNodeRules(kind: "etcd" | "redis"): void {
  describe(`a node with ${kind}`, { timeout: 180_000 }, () => {
    it("takes the next free subnet, once, and what the store shows can be read by a person", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const first = await hub.node();
      expect(await first.run(...first.setUpArgs("adopt", "--store", url))).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /^cocoon-net: there is no cluster in .*; check the URL.s prefix; a new cluster is made by .*\n$/,
        ),
      });
      const volcengine = ["--platform", "volcengine", "--store", url];
      expect(await first.adopt(...volcengine, ...parent)).toContain("253 addresses of 172.20.0.0/24");
      const registration = await first.json<{ epoch: number; uid: string }>("state/registration.json");
      expect(registration).toMatchObject({ node: "n1", subnet: "172.20.0.0/24", store: url });
      expect(await first.adopt(...volcengine)).toContain("172.20.0.0/24");
      expect(await first.json("state/registration.json")).toEqual(registration);
      expect(await first.json("state/pool.json")).toMatchObject({ subnet: "172.20.0.0/24" });

      const second = await it.node("n2", "--platform", "volcengine");
      expect(await second.json("state/pool.json")).toMatchObject({ subnet: "172.20.1.0/24" });

      const [, host, port] = /\/\/(.*):(\d+)$/.exec(url) ?? [];
      const shown =
        kind === "etcd"
          ? await hub.exec(
              "etcdctl",
              "--endpoints",
              `http://${host}:${port}`,
              "get",
              "--prefix",
              "/cocoon-net/",
            )
          : await hub.exec("redis-cli", "-h", host ?? "", "-p", port ?? "", "hgetall", "/cocoon-net");
      for (const key of ["config", "subnets/n1", "slots/172.20.0.0/24", "nodes/n1", "subnets/n2"]) {
        expect(shown).toMatch(new RegExp(`^${kind === "etcd" ? "/cocoon-net/" : ""}${key}$`, "m"));
      }
      expect(shown).toContain('"172.20.1.0/24"');
      expect(shown).toContain('"parentCIDR":"172.20.0.0/16"');
      const config = JSON.parse((await hub.call("list", "config")).config ?? "") as object;
      expect(config).toMatchObject({ parentCIDR: "172.20.0.0/16", nodePrefix: 24, platform: "volcengine" });
      const node = JSON.parse((await hub.call("list", "nodes/n1"))["nodes/n1"] ?? "") as object;
      expect(node).toMatchObject({ uid: registration.uid, status: "ready", subnet: "172.20.0.0/24" });
    });

    it("registers itself, mirrors its leases, publishes its use, and gives everything back at teardown", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await hub.node();
      await node.adopt("--subnet", "172.20.0.0/24");
      // It registers itself, and takes part in everything at once.
      const daemon = await node.daemon("--store", url, ...parent, ...ttl);
      await daemon.says("the subnet is ours");
      const { uid } = await node.json<{ uid: string }>("state/registration.json");
      const move = { intent: "move-1", from: "n1", to: "n2", toUID: "i-2", ready: [] };
      const about = { home: "n1", subnet: "172.20.0.0/24", mac: "52:54:00:00:00:99", seq: 0 };
      await hub.call("put", "moved/172.20.0.9", JSON.stringify({ ...about, node: "n1", uid, move }));
      await until("it to be ready for a move", async () =>
        ((await hub.call("list", "moved/"))["moved/172.20.0.9"] ?? "").includes('"ready":["n1"]'),
      );
      await hub.call("remove", "moved/172.20.0.9");
      await daemon.says("the address is this node's again");
      const guest = await node.guest();
      const address = await guest.boot();
      const begun = performance.now();
      await isMirrored(hub, address, guest.mac);
      console.log(`the store showed the lease after ${Math.round(performance.now() - begun)} ms`);
      await until("it to be alive", async () => {
        return Object.keys(await hub.call("list", "alive/")).join() === "alive/n1";
      });
      await until("pool use in the node's record", async () => {
        const record = JSON.parse((await hub.call("list", "nodes/n1"))["nodes/n1"] ?? "") as {
          pool?: { leased: number };
          maxLeaseEnd?: string;
        };
        return record.pool?.leased === 1 && record.maxLeaseEnd === (await mirrored(hub))[address]?.expiry;
      });
      await until("the metric", async () => /^cocoon_net_subnet_owned 1$/m.test(await node.metrics()));

      const before = (await mirrored(hub))[address];
      expect(await guest.renew()).toBe(address);
      await until("the renewal in the store", async () => {
        return ((await mirrored(hub))[address]?.seq ?? 0) > (before?.seq ?? 0);
      });
      await guest.release();
      await isMirrored(hub, address, undefined);

      const files = ["--state-dir", node.path("state"), "--lease-file", node.path("leases.json")];
      const pid = ["--pid-file", node.path("daemon.pid")];
      await daemon.kill();
      expect(await hub.call("list", "alive/")).toEqual({});
      expect(await node.run("teardown", ...files, ...pid)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/^cocoon-net: node n1 is registered in .*; give that --store URL.*\n$/),
      });
      await node.do("teardown", ...files, ...pid, "--store", url);
      expect(await hub.call("list", "subnets/")).toEqual({});
      expect(await hub.call("list", "slots/")).toEqual({});
    });

    it("keeps its guests and admits nobody while the store is away, and catches up by itself (G7)", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const [stays, leaves] = [await node.guest(), await node.guest()];
      const [kept, left] = [await stays.boot(), await leaves.boot()];
      await isMirrored(hub, left, leaves.mac);

      await hub.call("pauseServer");
      const since = daemon.output.lastIndexOf("the subnet is ours");
      await daemon.says("renewing only", since);
      const away = daemon.output.length;
      expect(await stays.renew()).toBe(kept);
      expect(await (await node.guest()).tryFor()).toBeUndefined();
      await leaves.release();
      await hub.call("stopServer", "SIGKILL");
      expect(await stays.renew()).toBe(kept);
      await until("the release in leases.json", async () => (await node.leases()).length === 1);
      // What the store still has is read before the daemon hears that it is back.
      daemon.signal("SIGSTOP");
      await hub.call("restartServer");
      expect((await mirrored(hub))[left]?.mac).toBe(leaves.mac);
      daemon.signal("SIGCONT");

      await daemon.says("the subnet is ours", away);
      await isMirrored(hub, left, undefined);
      const fresh = await node.guest();
      const address = await fresh.boot();
      await isMirrored(hub, address, fresh.mac);
      expect((await mirrored(hub))[kept]?.mac).toBe(stays.mac);
    });

    it("asked to leave, renews its guests and admits nobody, until it is told to stay", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const guest = await node.guest();
      const address = await guest.boot();
      const record = async (): Promise<Record<string, unknown>> =>
        JSON.parse((await hub.call("list", "nodes/n1"))["nodes/n1"] ?? "{}") as Record<string, unknown>;
      const setStatus = async (status: string): Promise<void> => {
        const { grantsStopped: _, ...rest } = await record();
        await hub.call("put", "nodes/n1", JSON.stringify({ ...rest, status }));
      };
      const saysSo = () =>
        until("the node to say that it has stopped", async () => {
          return (await record()).grantsStopped !== undefined;
        });
      // Nothing of this node's is written while its record is read and put back: it has published its use.
      await until("its use in the record", async () => (await record()).maxLeaseEnd !== undefined);
      await setStatus("draining");
      await saysSo();
      expect(await mirrored(hub)).toMatchObject({ [address]: { mac: guest.mac } });
      expect(await guest.renew()).toBe(address);
      const fresh = await node.guest();
      expect(await fresh.tryFor()).toBeUndefined();
      // Also from the first moment after a restart.
      await daemon.kill();
      const again = await node.daemon("--store", url, ...ttl);
      await again.says("the subnet is ours");
      expect(await fresh.tryFor()).toBeUndefined();
      expect(await guest.renew()).toBe(address);
      await until("the renewal in the record", async () => {
        return (await record()).maxLeaseEnd === (await mirrored(hub))[address]?.expiry;
      });
      await setStatus("ready");
      await again.says("it grants again");
      expect(await fresh.boot()).not.toBe(address);
    });

    it("takes part in the controller's election when asked to, and hands the lead over", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const lead = ["--controller", "--store", url, ...ttl];
      const [first, second] = [await it.node("n1", ...parent), await it.node("n2")];
      const leading = await first.daemon(...lead);
      await leading.says("leader-elected");
      const waiting = await second.daemon(...lead);
      await waiting.says("campaigning");
      await until("somebody to lead", async () => {
        return Object.keys(await hub.call("list", "leader")).join() === "leader";
      });
      // A node that has never had a guest may still be being set up.
      await (await first.guest()).boot();
      await until("its lease in the node's record", async () =>
        ((await hub.call("list", "nodes/n1"))["nodes/n1"] ?? "").includes("maxLeaseEnd"),
      );
      await leading.kill();
      await waiting.says("leader-elected");
      await waiting.says(/node-suspect.*n1/);
    });

    it("serves its guests after a restart without the store", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const guest = await node.guest();
      const address = await guest.boot();
      await isMirrored(hub, address, guest.mac);
      await hub.call("stopServer", "SIGKILL");
      await daemon.kill("SIGKILL");

      const again = await node.daemon("--store", url, ...ttl);
      expect(await guest.renew()).toBe(address);
      await again.says("new ones wait");
      const fresh = await node.guest();
      expect(await fresh.tryFor()).toBeUndefined();
      await hub.call("restartServer");
      await again.says("the subnet is ours");
      expect(await fresh.boot()).not.toBe(address);
    });

    it("leaves a subnet that was taken away, writes nothing about it, and joins anew when told to (G3)", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const guest = await node.guest();
      const address = await guest.boot();
      await isMirrored(hub, address, guest.mac);

      await hub.call("remove", "subnets/n1", "nodes/n1", "slots/172.20.0.0/24", `pool/${address}`);
      const other = await it.node("n2");
      expect(await other.json("state/pool.json")).toMatchObject({ subnet: "172.20.0.0/24" });
      await daemon.says("the subnet is lost");
      await until("the routes to be gone", async () => (await node.routes()).length === 0);
      await guest.isToldToLeave();
      expect(await mirrored(hub)).toEqual({});
      expect(Object.keys(await hub.call("list", "subnets/"))).toEqual(["subnets/n2"]);
      await until("the metric", async () => /^cocoon_net_subnet_lost 1$/m.test(await node.metrics()));

      // Also a restart without the store does not bring it back.
      await daemon.kill();
      expect(await node.run(...node.daemonArgs("--store", url))).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /^cocoon-net: node n1 lost 172\.20\.0\.0\/24 at .*; run init or adopt.*\n$/,
        ),
      });
      expect(await node.routes()).toEqual([]);

      expect(await node.adopt("--store", url)).toContain("172.20.1.0/24");
      expect(await node.namespace.ip("-4", "-br", "address", "show", "cni0")).toMatch(
        / 172\.20\.1\.1\/24 *\n$/,
      );
      expect(await node.namespace.ip("route", "show", "172.20.0.0/24")).toBe("");
      const anew = await node.daemon("--store", url, ...ttl);
      await anew.says("the subnet is ours");
      expect(anew.output).toContain("dropped leases outside 172.20.1.0/24");
      expect(await node.routes()).toEqual([]);
      const fresh = await node.guest();
      const moved = await fresh.boot();
      expect(moved).toMatch(/^172\.20\.1\./);
      await isMirrored(hub, moved, fresh.mac);
    });

    it("does not take an emptied store, or another cluster in it, for the loss of its subnet (G8)", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const guest = await node.guest();
      const address = await guest.boot();
      await isMirrored(hub, address, guest.mac);
      const keys = Object.keys(await hub.call("list", ""));
      await hub.call("remove", ...keys.filter((key) => !key.startsWith("events/")));
      await daemon.says("is empty, but this node belongs to cluster");
      expect(await guest.renew()).toBe(address);
      await node.do("cluster", "init", "--store", url, ...parent);
      await daemon.says(/ holds cluster \S+, but this node belongs to cluster/);
      expect(await guest.renew()).toBe(address);
      expect(await node.routes()).toEqual([address]);
      // Nor is it torn down there: nothing would be given back.
      await daemon.kill();
      const files = ["--state-dir", node.path("state"), "--lease-file", node.path("leases.json")];
      expect((await node.run("teardown", ...files, "--store", url)).stderr).toMatch(
        /^cocoon-net: .* holds cluster .*; give the URL of .*`rm .*registration\.json` and repeat without --store\n$/,
      );
      expect(await node.routes()).toEqual([address]);
    });

    it("takes its guests' leases back from the store when its own files are lost", async () => {
      await using it = await world(kind);
      const { hub, url } = it;
      const node = await it.node("n1", ...parent);
      const daemon = await node.daemon("--store", url, ...ttl);
      await daemon.says("the subnet is ours");
      const guest = await node.guest();
      const address = await guest.boot();
      await isMirrored(hub, address, guest.mac);

      // With the store at hand.
      await daemon.kill("SIGKILL");
      await loseFiles(node);
      await node.namespace.ip("route", "delete", `${address}/32`, "dev", "cni0");
      const second = await node.daemon("--store", url, ...ttl);
      await second.says("the subnet is ours");
      expect(second.output).toContain("took leases from the store");
      await until("its file to say so", async () => {
        return (await node.leases()).join() === `${address} ${guest.mac}`;
      });
      expect(await node.routes()).toEqual([address]);
      expect(await guest.renew()).toBe(address);
      expect(await (await node.guest()).boot()).not.toBe(address);

      // With the store away at the start: the guest waits for it, and is not told to leave.
      await second.kill("SIGKILL");
      await hub.call("stopServer", "SIGKILL");
      await loseFiles(node);
      const third = await node.daemon("--store", url, ...ttl);
      const seen = (await guest.events()).length;
      await third.says("new ones wait");
      expect(await (await node.guest()).tryFor()).toBeUndefined();
      await hub.call("restartServer");
      await third.says("the subnet is ours");
      expect(await guest.renew()).toBe(address);
      expect((await guest.events()).slice(seen).filter((event) => !event.startsWith("renew"))).toEqual([]);
      await isMirrored(hub, address, guest.mac);
    });
  });
}

async function loseFiles(node: AgentNode): Promise<void> {
  await rm(node.path("state/leases.journal"));
  await rm(node.path("leases.json"));
}
