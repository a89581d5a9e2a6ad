import { formatAddress, parseAddress, parseCidr } from "@cocoon-net/core";
import { type EngineOptions, emptyState, LeaseEngine, type MovedAddress } from "@cocoon-net/dhcp";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { macOf, optionsWithPool, request, wire } from "./client-messages.ts";
import { day, Guests, hour, refusal, T } from "./guests.ts";
import { startServer } from "./loopback-server.ts";
import { scratchDirectory } from "./scratch-directory.ts";

const [A, B] = [macOf(1), macOf(2)];
const own = "10.0.0.2";
const foreign = "10.7.0.9";
const home = { subnet: parseCidr("10.7.0.0/16"), gateway: parseAddress("10.7.0.1") };
const away: MovedAddress = { address: parseAddress(own) };
const guestOf = (mac: string): MovedAddress => ({ address: parseAddress(foreign), mac, home });

function guests(more: Partial<EngineOptions>): Guests {
  return new Guests(new LeaseEngine(optionsWithPool(2, more)));
}

describe("an address that is served elsewhere", () => {
  it("is granted to nobody, and its lease ends without anybody being told", () => {
    const it = guests({});
    const { ip } = it.lease(A).lease;
    expect(ip).toBe(own);
    it.engine.configure({ moved: [away] });
    expect(it.engine.letGo(parseAddress(own), T)).toMatchObject({ state: "ended", ip: own, mac: A });
    expect(it.engine.letGo(parseAddress(own), T)).toBeUndefined();
    expect(it.engine.expire(T + 2 * day)).toEqual([]);
    expect(it.discover(A, T + day)).toBe("10.0.0.3");
    // A guest that has not followed it yet shall not drop it.
    expect(refusal(it.renew(A, own, T + day))).toBe("silence served-elsewhere");
    expect(refusal(it.reboot(A, own, T + day))).toBe("nak not-in-pool");
    expect(it.discover(B, T + day, own)).toBeUndefined();
    expect(it.engine.counts()).toMatchObject({ pool: 2, reserved: 1, offered: 1 });
    it.engine.configure({ moved: [] });
    expect(it.discover(B, T + day)).toBe(own);
  });

  it("is not granted by what was under way either", () => {
    const it = guests({});
    const grant = it.select(A, it.discover(A) ?? "");
    if (grant.kind !== "grant") throw new Error(`not a grant: ${grant.kind}`);
    it.engine.configure({ moved: [away] });
    it.engine.letGo(parseAddress(own), T);
    expect(it.engine.commit(grant)).toBe(false);
    it.engine.abort(grant);
    expect(it.live()).toEqual([]);
  });
});

describe("a guest of another subnet", () => {
  it("renews, reboots and asks anew as at home, and sees its home's mask, router and server", () => {
    const it = guests({ moved: [guestOf(A)] });
    const taken = it.engine.takeIn({ mac: A, ip: foreign, expiry: T + hour }, T);
    expect(taken?.record).toMatchObject({ state: "leased", ip: foreign, mac: A });
    expect(it.live()).toEqual([`${foreign} ${A}`]);
    expect(it.take(it.renew(A, foreign, T + 1000)).lease.ip).toBe(foreign);
    expect(it.take(it.reboot(A, foreign, T + 2000)).lease.ip).toBe(foreign);
    const offer = it.send({ type: "discover", mac: A }, T + 3000);
    expect(offer.kind === "offer" && formatAddress(offer.address)).toBe(foreign);
    const selecting = { type: "request", mac: A, requested: foreign } as const;
    expect(refusal(it.send({ ...selecting, server: "10.0.0.1" }, T + 4000))).toBe("silence other-server");
    it.take(it.send({ ...selecting, server: "10.7.0.1" }, T + 4000));
    const { serverID, siaddr, values } = it.engine.parametersFor(request({ type: "request", mac: A }));
    expect([serverID, siaddr].map(formatAddress)).toEqual(["10.7.0.1", "10.7.0.1"]);
    expect(values.get(1)).toEqual(Uint8Array.of(255, 255, 0, 0));
    expect(values.get(3)).toEqual(Uint8Array.of(10, 7, 0, 1));
    expect(it.engine.counts()).toMatchObject({ pool: 2, free: 2, outside: 1 });
  });

  it("has a whole lease before it, whatever another machine's clock says of its end", () => {
    const it = guests({ moved: [guestOf(A)] });
    it.engine.takeIn({ mac: A, ip: foreign, expiry: T - day }, T);
    expect(it.engine.expire(T + day - 1000)).toEqual([]);
    expect(it.take(it.renew(A, foreign, T + day - 1000)).lease.ip).toBe(foreign);
  });

  it("keeps its address from everybody else, and may come back to it", () => {
    const it = guests({ moved: [guestOf(A)] });
    it.engine.takeIn({ mac: A, ip: foreign, expiry: T + hour }, T);
    expect(refusal(it.renew(B, foreign))).toBe("nak leased-to-another");
    expect(refusal(it.send({ type: "release", mac: B, ciaddr: foreign, server: "10.0.0.1" }))).toBe(
      "silence not-the-lease",
    );
    expect(it.send({ type: "release", mac: A, ciaddr: foreign, server: "10.7.0.1" }).kind).toBe("release");
    expect(it.discover(B, T + day, foreign)).toBe(own);
    expect(refusal(it.renew(B, foreign, T + day))).toBe("nak reserved");
    const offer = it.send({ type: "discover", mac: A }, T + day);
    expect(offer.kind === "offer" && formatAddress(offer.address)).toBe(foreign);
  });

  it("without the store is renewed, after a restart too; when it has gone on its lease ends", () => {
    const options = { moved: [guestOf(A)], granting: "renew-only" } as const;
    const before = guests(options);
    before.engine.takeIn({ mac: A, ip: foreign, expiry: T + hour }, T);
    const records = [...before.engine.records()];
    const after = new Guests(new LeaseEngine(optionsWithPool(2, options), { ...emptyState, records }));
    expect(after.take(after.renew(A, foreign)).lease.ip).toBe(foreign);
    after.engine.letGo(parseAddress(foreign), T);
    after.engine.configure({ moved: [] });
    expect(refusal(after.renew(A, foreign))).toBe("nak wrong-network");
    expect(after.engine.expire(T + 2 * day)).toEqual([]);
  });

  it("that has a lease here already loses that one, as any client that takes another", () => {
    const it = guests({});
    it.lease(A);
    it.engine.configure({ moved: [guestOf(A)] });
    it.engine.takeIn({ mac: A, ip: foreign, expiry: T + hour }, T);
    expect(it.engine.expire(T).map(({ lease }) => lease.ip)).toEqual([own]);
    expect(it.live()).toEqual([`${foreign} ${A}`]);
  });

  it("wins over what is reserved for its MAC, and over what its address is reserved for", () => {
    const reservations = [
      { mac: A, address: parseAddress(own), leaseMs: hour },
      { mac: B, address: parseAddress("10.0.0.3") },
    ];
    const it = guests({
      reservations,
      moved: [guestOf(A), { address: parseAddress("10.0.0.3"), mac: macOf(9) }],
    });
    const offer = it.send({ type: "discover", mac: A });
    expect(offer).toMatchObject({ kind: "offer", address: parseAddress(foreign), leaseMs: hour });
    expect(it.discover(B)).toBe(own);
  });
});

it("takes only what it can serve", () => {
  const bad = (moved: MovedAddress[]) => () => new LeaseEngine(optionsWithPool(2, { moved }));
  expect(bad([{ address: parseAddress(foreign), mac: A }])).toThrow(/says of no subnet/);
  expect(bad([{ ...guestOf(A), address: parseAddress("10.8.0.1") }])).toThrow(/is not in the subnet/);
  expect(bad([guestOf(A), { address: parseAddress(own), mac: A }])).toThrow(/has another one too/);
});

it("whatever happens, a moved address has nobody but the guest that it is listed for", () => {
  const client = fc.integer({ min: 1, max: 4 });
  const event = fc.oneof(
    fc.record({ do: fc.constant("ask" as const), client, ip: fc.constantFrom(own, "10.0.0.3", foreign) }),
    fc.record({ do: fc.constant("lease" as const), client }),
    fc.record({ do: fc.constant("move" as const), client, foreign: fc.boolean(), served: fc.boolean() }),
    fc.record({ do: fc.constant("back" as const) }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 2 * hour }) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const it = guests({ leaseMs: hour });
      let now = T;
      let moved: MovedAddress[] = [];
      for (const one of events) {
        if (one.do === "wait") now += one.ms;
        if (one.do === "ask") {
          const decision = it.renew(macOf(one.client), one.ip, now);
          if (decision.kind === "grant" && !it.engine.commit(decision)) it.engine.abort(decision);
        }
        if (one.do === "lease") {
          const offer = it.send({ type: "discover", mac: macOf(one.client) }, now);
          const requested = offer.kind === "offer" ? formatAddress(offer.address) : undefined;
          if (requested === undefined) continue;
          const decision = it.send({ type: "request", mac: macOf(one.client), ciaddr: requested }, now);
          if (decision.kind === "grant" && !it.engine.commit(decision)) it.engine.abort(decision);
        }
        if (one.do === "move") {
          const mac = macOf(one.client);
          const address = parseAddress(one.foreign ? foreign : own);
          const served = one.served && !moved.some((other) => other.mac === mac && other.address !== address);
          moved = [
            ...moved.filter((other) => other.address !== address),
            { address, ...(served ? { mac } : {}), ...(one.foreign ? { home } : {}) },
          ];
          it.engine.configure({ moved });
          it.engine.letGo(address, now);
          if (served) it.engine.takeIn({ mac, ip: formatAddress(address), expiry: now + hour }, now);
        }
        if (one.do === "back") {
          for (const { address } of moved) it.engine.letGo(address, now);
          moved = [];
          it.engine.configure({ moved });
        }
        it.engine.expire(now);
        const { free, offered, leased, cooling, declined, reserved, pool } = it.engine.counts();
        expect(free + offered + leased + cooling + declined + reserved).toBe(pool); // G10
        const live = [...it.engine.leases()];
        expect(new Set(live.map(({ mac }) => mac)).size).toBe(live.length);
        for (const { ip, mac } of live) {
          const record = moved.find(({ address }) => formatAddress(address) === ip);
          if (record !== undefined) expect(mac).toBe(record.mac);
          else expect(ip).not.toBe(foreign);
        }
      }
    }),
    { numRuns: 2_000 },
  );
});

it("the server has a moved guest's lease on disk and its route set, and takes both out again", async () => {
  const moved = [{ ...guestOf(A) }];
  const engine = optionsWithPool(2, { moved });
  const running = await startServer({ directory: await scratchDirectory(), engine });
  expect(await running.server.takeIn({ mac: A, ip: foreign, expiry: Date.now() + hour })).toBe(true);
  expect(await running.server.takeIn({ mac: B, ip: foreign, expiry: Date.now() + hour })).toBe(false);
  expect(running.network.routes).toContain(foreign);
  const ack = await running.ask(wire({ type: "request", mac: A, ciaddr: foreign, broadcast: true }));
  expect([ack.type, ack.ip]).toEqual(["ack", foreign]);
  await running.server.letGo(foreign);
  expect(running.network.routes).not.toContain(foreign);
  expect(running.happened("released")).toEqual([]);
});
