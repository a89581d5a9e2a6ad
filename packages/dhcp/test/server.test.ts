import { execFileSync } from "node:child_process";
import { mkdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAddress } from "@cocoon-net/core";
import { describe, expect, it, onTestFinished } from "vitest";
import { gateway, macOf, optionsWithPool, wire } from "./client-messages.ts";
import { RecordedNetwork, startServer } from "./loopback-server.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";
import { afterPowerCut, dora, gatedNetwork, leasesIn } from "./server-scenes.ts";

const T = Date.UTC(2026, 10, 1);
const day = 86_400_000;
const [A, B] = [macOf(1), macOf(2)];
const first = "10.0.0.2";

class Clock {
  time = T;
  now(): number {
    return this.time;
  }
}

describe("where replies go (RFC 2131 §4.1)", () => {
  it("to the relay; by broadcast when asked; to ciaddr; else by unicast through a neighbour entry", async () => {
    const running = await startServer({ directory: await scratchDirectory() });
    const relayed = await running.ask(wire({ type: "discover", mac: A, giaddr: "10.0.0.250" }));
    expect([relayed.to, relayed.packet.giaddr]).toEqual(["10.0.0.250:67", parseAddress("10.0.0.250")]);
    const broadcast = await running.ask(wire({ type: "discover", mac: A, broadcast: true }));
    expect(broadcast.to).toBe("255.255.255.255:68");
    expect(running.network.neighbours.size).toBe(0);
    const unicast = await running.ask(wire({ type: "request", mac: A, requested: first, server: gateway }));
    expect(unicast.to).toBe(`${first}:68`);
    expect([...running.network.neighbours]).toEqual([[first, A]]);
    const renewed = await running.ask(wire({ type: "request", mac: A, ciaddr: first, broadcast: true }));
    expect([renewed.type, renewed.to]).toEqual(["ack", `${first}:68`]);
    const informed = await running.ask(wire({ type: "inform", mac: B, ciaddr: "10.0.0.77" }));
    expect([informed.type, informed.ip, informed.to]).toEqual(["ack", "0.0.0.0", "10.0.0.77:68"]);
    expect(informed.packet.options.has(51)).toBe(false);
    const refused = await running.ask(wire({ type: "request", mac: B, ciaddr: first }));
    expect([refused.type, refused.to]).toEqual(["nak", "255.255.255.255:68"]);
    const relayedNak = await running.ask(
      wire({ type: "request", mac: B, ciaddr: first, giaddr: "10.0.0.250" }),
    );
    expect([relayedNak.to, relayedNak.packet.flags]).toEqual(["10.0.0.250:67", 0x8000]);
  });

  it("by broadcast when there can be no neighbour entry", async () => {
    const network = new RecordedNetwork();
    network.setNeighbour = () => Promise.reject(new Error("no such device"));
    const running = await startServer({ directory: await scratchDirectory(), network });
    expect((await running.ask(wire({ type: "discover", mac: A }))).to).toBe("255.255.255.255:68");
  });

  it("never to an address that a DISCOVER only claims", async () => {
    const running = await startServer({ directory: await scratchDirectory() });
    const offer = await running.ask(wire({ type: "discover", mac: A, ciaddr: "8.8.8.8" }));
    expect(offer.to).toBe(`${first}:68`);
  });
});

describe("the end of a lease", () => {
  it("by RELEASE takes the route out, is journalled and told", async () => {
    const directory = await scratchDirectory();
    const running = await startServer({ directory });
    await dora(running, A);
    running.send(wire({ type: "release", mac: A, ciaddr: first, server: gateway }));
    await until(() => running.network.routes.size === 0, "the route's removal");
    await until(async () => (await leasesIn(running)).length === 0, "the empty leases.json");
    expect(running.happened("released")).toMatchObject([{ lease: { ip: first, seq: 1 } }]);
    await running.server[Symbol.asyncDispose]();
    const again = await startServer({ directory });
    expect([...again.engine.leases()]).toEqual([]);
    expect(again.engine.counts()).toMatchObject({ cooling: 1 });
  });

  it("by DECLINE puts the address aside, over a restart too", async () => {
    const directory = await scratchDirectory();
    const running = await startServer({ directory });
    await dora(running, A);
    running.send(wire({ type: "decline", mac: A, requested: first, server: gateway }));
    await until(() => running.network.routes.size === 0, "the route's removal");
    expect(running.happened("declined")).toMatchObject([{ ip: first, mac: A, lease: { seq: 1 } }]);
    await running.server[Symbol.asyncDispose]();
    expect((await startServer({ directory })).engine.counts()).toMatchObject({ declined: 1 });
  });

  it("by time is found without traffic; a late renewal brings lease and route back in that order", async () => {
    const clock = new Clock();
    const engine = optionsWithPool(9, { leaseMs: 1000 });
    const running = await startServer({ directory: await scratchDirectory(), clock, engine });
    await dora(running, A);
    clock.time += 1000;
    const renewed = await running.ask(wire({ type: "request", mac: A, ciaddr: first }));
    expect(renewed.type).toBe("ack");
    expect(running.events.map(({ type }) => type)).toEqual(["granted", "expired", "granted"]);
    expect([...running.network.routes]).toEqual([first]);
    clock.time += 1000;
    await until(() => running.happened("expired").length === 2, "the expiry");
    await until(() => running.network.routes.size === 0, "the route's removal");
    await until(async () => (await leasesIn(running)).length === 0, "the empty leases.json");
  });

  it("of a guest's old address comes when it takes another one", async () => {
    const directory = await scratchDirectory();
    const running = await startServer({ directory });
    await dora(running, A);
    await running.ask(
      wire({ type: "request", mac: A, requested: "10.0.0.9", server: gateway, broadcast: true }),
    );
    await until(() => running.network.routes.size === 1, "the old route's removal");
    expect([...running.network.routes]).toEqual(["10.0.0.9"]);
    expect(running.happened("released")).toMatchObject([{ lease: { ip: first } }]);
    const again = await afterPowerCut(directory);
    expect([...again.engine.leases()].map(({ ip }) => ip)).toEqual(["10.0.0.9"]);
  });
});

describe("a start", () => {
  // Catalogue 7. Guard: packages/dhcp/src/server.ts, restoreRoutes: all are set before the first answer.
  it("restores the routes of all live leases before the first answer, and drops those that expired (G9)", async () => {
    const directory = await scratchDirectory();
    const clock = new Clock();
    const running = await startServer({ directory, clock });
    await dora(running, A);
    clock.time += day / 2;
    await dora(running, B);
    await running.server[Symbol.asyncDispose]();
    const later = new Clock();
    later.time = T + day + 1000;
    const network = new RecordedNetwork();
    network.routes.add(first); // left in the kernel by the process before
    const again = await startServer({ directory, clock: later, network });
    await until(() => !network.routes.has(first), "the stale route's removal");
    expect([...network.routes]).toEqual(["10.0.0.3"]);
    expect(again.happened("expired")).toMatchObject([{ lease: { mac: A } }]);
  });

  it("takes over from the program before ours in place", async () => {
    const directory = await scratchDirectory();
    const entry = { mac: A, ip: "10.0.0.40", expiry: new Date(Date.now() + day).toISOString() };
    await writeFile(join(directory, "leases.json"), JSON.stringify([entry]));
    const running = await startServer({ directory });
    expect([...running.network.routes]).toEqual(["10.0.0.40"]);
    const ack = await running.ask(wire({ type: "request", mac: A, ciaddr: "10.0.0.40" }));
    expect([ack.type, ack.ip]).toEqual(["ack", "10.0.0.40"]);
    expect(running.happened("renewed")).toHaveLength(1);
  });
});

describe("one client's messages", () => {
  it("are answered in order, and a flood of them is not piled up", async () => {
    const { network, open } = gatedNetwork();
    const running = await startServer({ directory: await scratchDirectory(), network });
    const offer = await running.ask(wire({ type: "discover", mac: A, broadcast: true }));
    const ask = wire({ type: "request", mac: A, requested: offer.ip, server: gateway, broadcast: true });
    running.send(ask);
    running.send(wire({ type: "release", mac: A, ciaddr: offer.ip, server: gateway }));
    for (let index = 0; index < 10; index++)
      running.send(wire({ type: "discover", mac: A, broadcast: true }));
    await running.dropped("client-busy", 7);
    open();
    await until(() => running.replies.length === 5, "the ACK and the queued offers");
    expect(running.replies.map(({ type }) => type)).toEqual(["offer", "ack", "offer", "offer", "offer"]);
    expect(running.events.map(({ type }) => type)).toEqual(["granted", "released"]);
  });

  it("that are malformed or meant for others are counted by reason", async () => {
    const running = await startServer({ directory: await scratchDirectory() });
    running.send(new Uint8Array(10));
    running.send(new Uint8Array(300));
    running.send(wire({ type: "discover", mac: "ff:ff:ff:ff:ff:ff" }));
    running.send(wire({ type: "request", mac: A, requested: first, server: "10.0.0.200" }));
    await running.dropped("other-server");
    const dropped = { "too-short": 1, "wrong-magic": 1, "wrong-hardware": 1, "other-server": 1 };
    expect(running.server.stats().dropped).toEqual(dropped);
    expect(running.replies).toEqual([]);
  });
});

describe("a full disk", () => {
  it("stops new grants, lets guests keep what is durable, and ends by itself", async () => {
    const disk = join(await scratchDirectory(), "disk");
    await mkdir(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
    onTestFinished(() => {
      execFileSync("umount", ["--lazy", disk]);
    });
    const clock = new Clock();
    const running = await startServer({ directory: disk, clock });
    await dora(running, A);
    const ballast = join(disk, "ballast");
    await writeFile(ballast, Buffer.alloc(1 << 20)).catch(() => undefined);
    // Fill the last page of the journal as well.
    clock.time += 3_600_000;
    let remaining = 86_400;
    while (remaining === 86_400) {
      const ack = await running.ask(wire({ type: "request", mac: A, ciaddr: first }));
      expect(ack.type).toBe("ack");
      const option = ack.packet.options.get(51) ?? new Uint8Array(4);
      remaining = new DataView(option.buffer, option.byteOffset).getUint32(0);
      if (remaining === 86_400) clock.time += 1000;
    }
    // What is left of the last lease that is on disk.
    expect(remaining).toBe(86_399);
    const durable = running.engine.leaseOf(parseAddress(first))?.expiry;

    const offer = await running.ask(wire({ type: "discover", mac: B, broadcast: true }));
    running.send(wire({ type: "request", mac: B, requested: offer.ip, server: gateway }));
    await running.dropped("journal");
    expect(running.happened("refused")).toMatchObject([{ reason: "journal" }, { mac: B, reason: "journal" }]);
    expect(running.happened("problem")).toHaveLength(1);
    expect(running.server.stats().journal.failing).toContain("ENOSPC");
    expect([...running.network.routes]).toEqual([first]);

    await truncate(ballast, 0);
    expect(await dora(running, B)).toBe(offer.ip);
    await running.server[Symbol.asyncDispose]();
    const again = await startServer({ directory: disk, clock });
    expect(again.engine.leaseOf(parseAddress(first))?.expiry).toBe(durable);
    expect(again.engine.leaseOf(parseAddress(offer.ip))?.mac).toBe(B);
  });
});

describe("a change of the granting mode", () => {
  it("reaches grants that are under way: a lost subnet is not acknowledged any more (G3)", async () => {
    const { network, open } = gatedNetwork();
    const running = await startServer({ directory: await scratchDirectory(), network });
    const offer = await running.ask(wire({ type: "discover", mac: A, broadcast: true }));
    running.send(wire({ type: "request", mac: A, requested: offer.ip, server: gateway }));
    await until(() => running.server.stats().journal.records === 1, "the journalled grant");
    running.engine.configure({ granting: "refuse" });
    open();
    await until(() => running.replies.length === 2, "the NAK");
    expect(running.replies[1]?.type).toBe("nak");
    expect(network.routes.size).toBe(0);
  });
});

describe("dispose", () => {
  it("finishes what is under way and may be called twice", async () => {
    const directory = await scratchDirectory();
    const running = await startServer({ directory });
    const offer = await running.ask(wire({ type: "discover", mac: A, broadcast: true }));
    running.send(wire({ type: "request", mac: A, requested: offer.ip, server: gateway, broadcast: true }));
    await until(() => (running.server.stats().received.request ?? 0) === 1, "the REQUEST");
    await Promise.all([running.server[Symbol.asyncDispose](), running.server[Symbol.asyncDispose]()]);
    expect(await leasesIn(running)).toEqual([`${first} ${A}`]);
    expect([...running.network.routes]).toEqual([first]);
  });
});
