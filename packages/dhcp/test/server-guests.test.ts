import { type AddressProbe, type BridgePorts, FloodGuard } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { gateway, macOf, optionsWithPool, wire } from "./client-messages.ts";
import { Mutator, Random } from "./fuzz/mutator.ts";
import { seeds } from "./fuzz/seeds.ts";
import { RecordedNetwork, type Running, startServer } from "./loopback-server.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";
import { dora, gatedNetwork } from "./server-scenes.ts";

const T = Date.UTC(2026, 10, 1);
const hour = 3_600_000;
const [A, B, C] = [macOf(1), macOf(2), macOf(3)];
const [first, second] = ["10.0.0.2", "10.0.0.3"];

class Clock {
  time = T;
  now(): number {
    return this.time;
  }
}

/** DORA amid other replies. */
async function lease(running: Running, mac: string): Promise<string> {
  const reply = async (type: "offer" | "ack"): Promise<string> => {
    const find = (): string | undefined =>
      running.replies.find((one) => one.mac === mac && one.type === type)?.ip;
    await until(() => find() !== undefined, `${type} for ${mac}`);
    return find() ?? "";
  };
  running.send(wire({ type: "discover", mac, broadcast: true }));
  const requested = await reply("offer");
  running.send(wire({ type: "request", mac, requested, server: gateway, broadcast: true }));
  return reply("ack");
}

async function release(running: Running, mac: string, ip: string): Promise<void> {
  const before = running.happened("released").length;
  running.send(wire({ type: "release", mac, ciaddr: ip, server: gateway }));
  await until(() => running.happened("released").length > before, "the release");
}

/** Says who uses which address, and counts the questions. */
class Link implements AddressProbe {
  readonly users = new Map<string, string>();
  asked: string[] = [];
  isBroken = false;

  async probe(ip: string): Promise<string | undefined> {
    this.asked.push(ip);
    if (this.isBroken) throw new Error("no such device");
    return this.users.get(ip);
  }
}

describe("a probe before the offer", () => {
  /** A server of two addresses, both of which were leased and given back. */
  async function used(link: Link): Promise<{ running: Running; clock: Clock; directory: string }> {
    const clock = new Clock();
    const directory = await scratchDirectory();
    const running = await startServer({ directory, clock, engine: optionsWithPool(2), probe: link });
    for (const [mac, ip] of [
      [A, first],
      [B, second],
    ] as const) {
      expect(await dora(running, mac)).toBe(ip);
      clock.time += 1000;
    }
    for (const [mac, ip] of [
      [A, first],
      [B, second],
    ] as const) {
      await release(running, mac, ip);
      clock.time += 1000;
    }
    clock.time += hour;
    expect(link.asked).toEqual([]);
    return { running, clock, directory };
  }

  it("puts an address that a guest uses without a lease aside, and offers another one", async () => {
    const link = new Link();
    const { running, clock, directory } = await used(link);
    link.users.set(first, macOf(77));
    const offer = await running.ask(wire({ type: "discover", mac: C, broadcast: true }));
    expect(offer.ip).toBe(second);
    expect(link.asked).toEqual([first, second]);
    expect(running.happened("in-use")).toEqual([{ type: "in-use", ip: first, mac: macOf(77) }]);
    expect(running.engine.counts()).toMatchObject({ declined: 1, offered: 1 });
    await running.server[Symbol.asyncDispose]();
    const again = await startServer({ directory, clock, engine: optionsWithPool(2), probe: link });
    expect(again.engine.counts()).toMatchObject({ declined: 1 });
  });

  it("is remembered for 30 s, and is not taken for a conflict when the client itself answers", async () => {
    const link = new Link();
    const { running, clock } = await used(link);
    link.users.set(first, C);
    for (let times = 0; times < 3; times++) {
      expect((await running.ask(wire({ type: "discover", mac: C, broadcast: true }))).ip).toBe(first);
    }
    expect(link.asked).toEqual([first]);
    clock.time += 30_000;
    await running.ask(wire({ type: "discover", mac: C, broadcast: true }));
    expect(link.asked).toEqual([first, first]);
  });

  it("that cannot be made is reported once, and offers go out", async () => {
    const link = new Link();
    link.isBroken = true;
    const { running } = await used(link);
    expect((await running.ask(wire({ type: "discover", mac: C, broadcast: true }))).ip).toBe(first);
    expect((await running.ask(wire({ type: "discover", mac: B, broadcast: true }))).ip).toBe(second);
    expect(running.happened("problem")).toMatchObject([
      { message: "addresses cannot be probed before an offer" },
    ]);
  });

  it("ends with silence when everything is in use", async () => {
    const link = new Link();
    const { running } = await used(link);
    for (const ip of [first, second]) link.users.set(ip, macOf(77));
    running.send(wire({ type: "discover", mac: C }));
    await running.dropped("pool-empty");
    expect(running.engine.counts()).toMatchObject({ declined: 2 });
  });
});

describe("a flood of DISCOVERs with made-up MACs from behind one bridge port", () => {
  it("takes at most the leases of one port; other guests get theirs, and those that have one renew", async () => {
    const ports: BridgePorts = { portOf: (mac) => (mac > macOf(1000) ? "flood" : mac) };
    const engine = optionsWithPool(20, { leasesPerPort: 4 });
    const running = await startServer({
      directory: await scratchDirectory(),
      engine,
      guard: new FloodGuard({ ports }),
    });
    const ip = await dora(running, A);
    for (let sent = 1; sent < 2000; sent++) {
      running.send(wire({ type: "discover", mac: macOf(5000 + sent) }));
      // Loopback drops nothing as long as we wait for what we sent.
      if (sent % 100 === 0) await until(() => (running.server.stats().received.discover ?? 0) > sent, "all");
    }
    expect(await lease(running, B)).toBeDefined();
    expect(await lease(running, C)).toBeDefined();
    running.send(wire({ type: "request", mac: A, ciaddr: ip }));
    await until(() => running.happened("renewed").length === 1, "the renewal");
    await running.dropped("port-limit");
    await running.dropped("flood-port");
    expect(running.engine.counts()).toMatchObject({ leased: 3, offered: 4 });
  });
});

describe("a VM that is deleted", () => {
  it("leaves no lease, no route and no entry in leases.json when that has been confirmed, on disk too", async () => {
    const directory = await scratchDirectory();
    const running = await startServer({ directory });
    await running.server.assignVm("vm-a", A.toUpperCase());
    await dora(running, A);
    expect(running.happened("granted")).toMatchObject([{ lease: { vmID: "vm-a" } }]);
    await running.server.removeVm("vm-a");
    expect(running.network.routes.size).toBe(0);
    expect(running.happened("released")).toMatchObject([{ lease: { ip: first, vmID: "vm-a" } }]);
    await running.server.removeVm("vm-a");
    await running.server[Symbol.asyncDispose]();
    const again = await startServer({ directory });
    expect([...again.engine.leases()]).toEqual([]);
    // The next VM with that MAC does not inherit the address while it cools.
    expect((await again.ask(wire({ type: "discover", mac: A, broadcast: true }))).ip).toBe(second);
  });

  it("and whose grant is being written does not get it; the id of one that is made known then is not lost", async () => {
    const { network, open } = gatedNetwork();
    const running = await startServer({ directory: await scratchDirectory(), network });
    await running.server.assignVm("vm-a", A);
    for (const mac of [A, B]) {
      const { ip } = await running.ask(wire({ type: "discover", mac, broadcast: true }));
      running.send(wire({ type: "request", mac, requested: ip, server: gateway, broadcast: true }));
    }
    await until(() => running.server.stats().journal.records === 2, "both journalled grants");
    const assigned = running.server.assignVm("vm-b", B);
    await running.server.removeVm("vm-a");
    open();
    await assigned;
    await until(() => running.replies.length === 4, "an ACK and a NAK");
    expect(
      running.replies
        .slice(2)
        .map(({ type, mac }) => `${type} ${mac}`)
        .toSorted(),
    ).toEqual([`ack ${B}`, `nak ${A}`]);
    expect([...running.engine.leases()]).toMatchObject([{ mac: B, vmID: "vm-b" }]);
    expect([...running.network.routes]).toEqual([second]);
  });
});

describe("an ACK", () => {
  it("that is broadcast still replaces what the address resolved to for the guest before", async () => {
    const running = await startServer({ directory: await scratchDirectory(), engine: optionsWithPool(1) });
    await dora(running, A);
    expect([...running.network.neighbours]).toEqual([[first, A]]);
  });

  it("to a DISCOVER with rapid commit is durable and routed like any other; its failure is silence", async () => {
    const directory = await scratchDirectory();
    const network = new RecordedNetwork();
    const engine = optionsWithPool(9, { rapidCommit: true });
    const running = await startServer({ directory, engine, network });
    const rapid = (mac: string): Uint8Array =>
      wire({ type: "discover", mac, broadcast: true, options: new Map([[80, new Uint8Array(0)]]) });
    const ack = await running.ask(rapid(A));
    expect([ack.type, ack.packet.options.has(80), [...network.routes]]).toEqual(["ack", true, [ack.ip]]);
    network.addRoute = () => Promise.reject(new Error("no such device"));
    running.send(rapid(B));
    await running.dropped("route");
    expect(running.replies).toHaveLength(1);
  });
});

describe("5,000 packets near to what real clients send", () => {
  it("are each counted once, and leave the server answering", async () => {
    const running = await startServer({ directory: await scratchDirectory() });
    const mutator = new Mutator(new Random(5), seeds());
    const unread = [
      "too-short",
      "too-long",
      "wrong-magic",
      "option-overrun",
      "bad-overload",
      "not-a-request",
    ];
    unread.push("wrong-hardware", "no-message-type", "not-from-a-client", "bad-option");
    const counted = (): number => {
      const { received, dropped } = running.server.stats();
      const whole = Object.values(received).reduce((sum, count) => sum + count, 0);
      return unread.reduce((sum, reason) => sum + (dropped[reason] ?? 0), whole);
    };
    for (let sent = 0; sent < 5000; sent += 100) {
      for (let index = 0; index < 100; index++) running.send(mutator.next().slice());
      // Loopback drops nothing as long as we wait for what we sent.
      await until(() => counted() >= sent + 100, "all packets");
    }
    expect(counted()).toBe(5000);
    expect(running.happened("problem")).toEqual([]);
    expect(await lease(running, macOf(9999))).toBeDefined();
  });
});
