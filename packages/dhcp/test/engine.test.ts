import { InvalidError, parseAddress } from "@cocoon-net/core";
import { type AddressRecord, LeaseEngine } from "@cocoon-net/dhcp";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gateway, macOf, optionsWithPool, request } from "./client-messages.ts";
import { day, Guests, hour, minute, refusal, T } from "./guests.ts";

const [A, B, C] = [macOf(1), macOf(2), macOf(3)];
const first = "10.0.0.2";
const second = "10.0.0.3";

const leased = (ip: string, mac: string, expiry: number, seq = 1): AddressRecord => ({
  state: "leased",
  ip,
  mac,
  expiry,
  seq,
});

describe("DISCOVER", () => {
  it("offers the client's live lease first, also when it asks for another address", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(guests.discover(A, T, second)).toBe(first);
    expect(guests.engine.counts()).toMatchObject({ leased: 1, offered: 0 });
  });

  it("repeats a live offer and prolongs its hold", () => {
    const guests = new Guests();
    expect(guests.discover(A)).toBe(first);
    expect(guests.discover(A, T + 50_000)).toBe(first);
    expect(guests.discover(B, T + 70_000)).toBe(second);
  });

  it("offers the client's earlier address while it is free", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.lease(B);
    guests.release(B, second);
    expect(guests.discover(B, T + day / 2)).toBe(second);
  });

  it("offers the requested address when it is free, else another one", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(10)));
    expect(guests.discover(A, T, "10.0.0.7")).toBe("10.0.0.7");
    expect(guests.discover(B, T, "10.0.0.7")).toBe(first);
    expect(guests.discover(C, T, "192.168.0.1")).toBe(second);
  });

  it("gives out addresses never used before, then those freed longest ago", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(3)));
    guests.lease(A);
    guests.lease(B);
    guests.release(B, second, T + 1000);
    guests.release(A, first, T + 2000);
    const later = T + hour;
    const order = [7, 8, 9].map((index) => guests.discover(macOf(index), later));
    expect(order).toEqual(["10.0.0.4", second, first]);
  });

  it("is silent when the pool is empty, and answers again when an offer lapses", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.discover(B);
    expect(refusal(guests.send({ type: "discover", mac: C }))).toBe("silence pool-empty");
    expect(guests.discover(C, T + minute)).toBe(second);
  });

  it("never offers the gateway, the subnet's own address, its broadcast address or a reserved one", () => {
    const pool = ["10.0.0.0", gateway, "10.0.0.255", second, first].map((ip) => parseAddress(ip));
    const engine = new LeaseEngine(optionsWithPool(0, { pool, reserved: [parseAddress(second)] }));
    expect(engine.counts()).toMatchObject({ reserved: 4, free: 1, pool: 5 });
    const guests = new Guests(engine);
    expect(guests.discover(A, T, second)).toBe(first);
    expect(refusal(guests.select(A, second))).toBe("nak not-in-pool");
  });
});

describe("REQUEST in SELECTING", () => {
  it("grants the offer; the lease is live only after commit", () => {
    const guests = new Guests();
    const ip = guests.discover(A);
    const grant = guests.select(A, String(ip));
    expect(grant).toMatchObject({ kind: "grant", lease: { ip: first, mac: A, expiry: T + day, seq: 1 } });
    expect(guests.live()).toEqual([]);
    guests.take(grant);
    expect(guests.live()).toEqual([`${first} ${A}`]);
  });

  it("frees the offer and is silent when another server was chosen", () => {
    const guests = new Guests();
    guests.discover(A);
    const decision = guests.send({ type: "request", mac: A, requested: first, server: "10.0.0.99" });
    expect(refusal(decision)).toBe("silence other-server");
    expect(guests.engine.counts()).toMatchObject({ free: 2, offered: 0 });
  });

  it("refuses what belongs to others or is on another network", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.discover(B);
    expect(refusal(guests.select(C, first))).toBe("nak leased-to-another");
    expect(refusal(guests.select(C, second))).toBe("nak offered-to-another");
    expect(refusal(guests.select(C, "10.0.0.9"))).toBe("nak not-in-pool");
    expect(refusal(guests.select(C, "10.0.1.2"))).toBe("nak wrong-network");
    expect(refusal(guests.send({ type: "request", mac: C, server: gateway }))).toBe("silence no-address");
  });

  it("numbers every grant, and rounds the expiry up to a whole second", () => {
    const guests = new Guests();
    const one = guests.lease(A, T + 1);
    const two = guests.take(guests.renew(A, first, T + hour));
    expect([one.lease.seq, two.lease.seq]).toEqual([1, 2]);
    expect(one.lease.expiry).toBe(T + day + 1000);
  });

  it("ends the client's lease of another address, in the same journal append", () => {
    const guests = new Guests();
    guests.lease(A);
    const move = guests.take(guests.select(A, second));
    expect(move.replaces?.ip).toBe(first);
    expect(move.records.map(({ ip, state }) => `${ip} ${state}`)).toEqual([
      `${second} leased`,
      `${first} ended`,
    ]);
    expect(guests.live()).toEqual([`${second} ${A}`]);
    expect(guests.engine.counts()).toMatchObject({ cooling: 1 });
  });
});

describe("REQUEST in INIT-REBOOT", () => {
  it("renews the lease that the client remembers", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(guests.reboot(A, first)).toMatchObject({ kind: "grant", renews: { seq: 1 } });
  });

  it("refuses another address than the client's own, and one on another network", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(refusal(guests.reboot(A, second))).toBe("nak moved");
    expect(refusal(guests.reboot(C, "192.168.1.2"))).toBe("nak wrong-network");
  });

  it("is silent about a client without a record, unless the address is somebody's", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(refusal(guests.reboot(C, second))).toBe("silence unknown-client");
    expect(refusal(guests.reboot(C, first))).toBe("nak leased-to-another");
  });
});

describe("REQUEST in RENEWING and REBINDING", () => {
  it("renews and remembers the host name", () => {
    const guests = new Guests();
    guests.take(guests.send({ type: "request", mac: A, ciaddr: first, hostname: "g1" }));
    const renewal = guests.take(guests.renew(A, first, T + hour));
    expect(renewal.lease).toMatchObject({ expiry: T + hour + day, hostname: "g1" });
    expect(guests.engine.nextExpiry()).toBe(T + hour + day);
  });

  it("gives a client that nobody knows the free address that it has", () => {
    expect(new Guests().renew(A, second)).toMatchObject({ kind: "grant", lease: { ip: second } });
  });

  it("refuses an address that cools down after another client", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.release(A, first);
    expect(refusal(guests.renew(B, first, T + minute - 1))).toBe("nak not-available");
    expect(guests.renew(B, first, T + minute).kind).toBe("grant");
  });
});

describe("a proposed grant", () => {
  it("goes back to the offer when aborted, and says how to undo its records", () => {
    const guests = new Guests();
    guests.discover(A);
    const grant = guests.select(A, first, T + 1000);
    if (grant.kind !== "grant") throw new Error("not a grant");
    expect(guests.engine.abort(grant)).toEqual([{ state: "ended", ip: first, until: 0, expiry: 0, seq: 0 }]);
    expect(guests.engine.counts()).toMatchObject({ offered: 1 });
    expect(() => guests.engine.commit(grant)).toThrow(InvalidError);
    expect(guests.discover(B, T + 2000)).toBe(second);
  });

  it("leaves the lease that it would have renewed", () => {
    const guests = new Guests();
    const { lease } = guests.lease(A);
    const renewal = guests.renew(A, first, T + hour);
    if (renewal.kind !== "grant") throw new Error("not a grant");
    expect(guests.engine.abort(renewal)).toEqual([{ state: "leased", ...lease }]);
    expect([...guests.engine.leases()]).toEqual([lease]);
    expect(guests.engine.nextExpiry()).toBe(lease.expiry);
  });

  it("keeps its address from everybody until it is settled, past the end of offer and lease (G2)", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(1)));
    guests.discover(A);
    const grant = guests.select(A, first);
    expect(refusal(guests.renew(B, first, T + hour))).toBe("silence pending");
    expect(guests.discover(B, T + hour)).toBeUndefined();
    expect(refusal(guests.renew(A, first))).toBe("silence pending");
    guests.take(grant);
    const renewal = guests.renew(A, first, T + day - 1);
    expect(guests.engine.expire(T + 2 * day)).toEqual([]);
    expect(guests.discover(B, T + 2 * day)).toBeUndefined();
    guests.take(renewal);
  });

  it("cannot be committed when granting stopped meanwhile", () => {
    for (const granting of ["renew-only", "refuse"] as const) {
      const guests = new Guests();
      guests.discover(A);
      const grant = guests.select(A, first);
      if (grant.kind !== "grant") throw new Error("not a grant");
      guests.engine.configure({ granting });
      expect(guests.engine.commit(grant)).toBe(false);
      guests.engine.abort(grant);
      expect(guests.live()).toEqual([]);
    }
  });
});

describe("RELEASE", () => {
  // Catalogue 8. Guard: packages/dhcp/src/engine.ts, LeaseEngine.#release: only its holder ends a lease.
  it("frees only the lease it names (G4)", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(refusal(guests.release(B, first))).toBe("silence not-the-lease");
    expect(refusal(guests.release(A, second))).toBe("silence not-the-lease");
    const foreign = guests.send({ type: "release", mac: A, ciaddr: first, server: "10.0.0.9" });
    expect(refusal(foreign)).toBe("silence other-server");
    expect(guests.live()).toHaveLength(1);
    expect(guests.release(A, first)).toMatchObject({ kind: "release", lease: { ip: first, seq: 1 } });
    expect(guests.live()).toEqual([]);
  });
});

describe("INFORM", () => {
  it("is answered without a lease", () => {
    const guests = new Guests();
    const decision = guests.send({ type: "inform", mac: C, ciaddr: "10.0.0.77" });
    expect(decision).toEqual({ kind: "inform-ack", address: parseAddress("10.0.0.77") });
    expect(guests.engine.counts()).toMatchObject({ free: 2, leased: 0 });
    expect(refusal(guests.send({ type: "inform", mac: C, ciaddr: "9.9.9.9" }))).toBe("silence wrong-network");
  });
});

describe("granting", () => {
  // Catalogue 27. Guard: packages/dhcp/src/engine.ts, LeaseEngine.#request: a new grant only while granting is open.
  it("renew-only renews live leases and is silent to everything new (G7)", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.lease(B);
    guests.release(B, second);
    guests.engine.configure({ granting: "renew-only" });
    expect(guests.discover(A)).toBe(first);
    guests.take(guests.renew(A, first));
    guests.take(guests.reboot(A, first));
    guests.take(guests.select(A, first));
    expect(refusal(guests.send({ type: "discover", mac: C }))).toBe("silence renew-only");
    expect(refusal(guests.renew(B, second))).toBe("silence renew-only");
    expect(refusal(guests.select(A, second, T + hour))).toBe("silence renew-only");
  });

  it("refuse gives every REQUEST a NAK and DISCOVER silence (G3)", () => {
    const guests = new Guests();
    guests.lease(A);
    guests.engine.configure({ granting: "refuse" });
    expect(refusal(guests.send({ type: "discover", mac: A }))).toBe("silence refusing");
    expect(refusal(guests.renew(A, first))).toBe("nak refusing");
    expect(refusal(guests.reboot(C, first))).toBe("nak refusing");
    guests.engine.configure({ granting: "open" });
    expect(guests.renew(A, first).kind).toBe("grant");
  });
});

describe("a changed pool", () => {
  // Catalogue 18. Guard: packages/dhcp/src/address-table.ts, AddressTable.setPool: what is leased stays, outside the
  // pool.
  it("keeps leases when it shrinks and counts them apart; offers of lost addresses end", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(4)));
    guests.lease(A);
    guests.lease(B);
    guests.discover(C);
    guests.engine.configure({ pool: [parseAddress(second)] });
    expect(guests.engine.counts()).toMatchObject({ pool: 1, leased: 1, free: 0, offered: 0, outside: 1 });
    expect(guests.live()).toHaveLength(2);
    guests.engine.configure({ pool: optionsWithPool(4).pool });
    expect(guests.engine.counts()).toMatchObject({ pool: 4, leased: 2, free: 2, outside: 0 });
    expect(guests.renew(A, first).kind).toBe("grant");
  });

  it("keeps what it had when the new one is wrong", () => {
    const { engine } = new Guests();
    expect(() => engine.configure({ pool: [parseAddress("192.168.0.1")] })).toThrow(
      "pool address 192.168.0.1 is not in subnet 10.0.0.0/24",
    );
    expect(engine.counts().pool).toBe(2);
  });
});

describe("a restart", () => {
  const restarted = (engine: LeaseEngine): Guests =>
    new Guests(new LeaseEngine(optionsWithPool(2), { seq: engine.seq, records: [...engine.records()] }));

  // Catalogue 15. Guard: packages/dhcp/src/bindings.ts, Bindings.restore: coolUntil comes from the record.
  it("keeps leases, cool-downs, declined addresses, the order of reuse and the grant numbers", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(2)));
    guests.lease(A);
    guests.lease(B);
    guests.release(B, second, T + 1000);
    const again = restarted(guests.engine);
    expect(again.live()).toEqual([`${first} ${A}`]);
    expect(again.discover(C, T + 2000)).toBeUndefined();
    expect(again.discover(B, T + 2000)).toBe(second);
    expect(again.take(again.select(B, second, T + 2000)).lease.seq).toBe(3);
    again.send({ type: "decline", mac: B, requested: second, server: gateway }, T + 3000);
    const third = restarted(again.engine);
    expect(third.discover(C, T + hour)).toBeUndefined();
    expect(third.engine.counts()).toMatchObject({ declined: 1, leased: 1 });
  });

  it("reports leases that expired in between, once", () => {
    const engine = new LeaseEngine(optionsWithPool(2), { seq: 5, records: [leased(first, A, T - 1000)] });
    expect(engine.expire(T).map(({ lease }) => lease.ip)).toEqual([first]);
    expect(engine.expire(T)).toEqual([]);
    expect(engine.counts()).toMatchObject({ cooling: 1 });
  });

  it("leaves one lease of a client that has two records", () => {
    const records = [leased(first, A, T + day, 4), leased(second, A, T + hour, 9)];
    const guests = new Guests(new LeaseEngine(optionsWithPool(2), { seq: 9, records }));
    expect(guests.live()).toEqual([`${second} ${A}`]);
    expect(guests.engine.expire(T).map(({ lease }) => lease.ip)).toEqual([first]);
  });
});

describe("defects of the program before ours", () => {
  it("DECLINE is heeded: the address goes aside for 24 h", () => {
    const guests = new Guests();
    guests.lease(A);
    const decision = guests.send({ type: "decline", mac: A, requested: first, server: gateway });
    expect(decision).toMatchObject({ kind: "decline", ip: first, lease: { mac: A } });
    expect(guests.engine.counts()).toMatchObject({ declined: 1, leased: 0 });
    expect(guests.discover(A, T + 1000, first)).toBe(second);
    expect(refusal(guests.renew(B, first, T + day - 1))).toBe("nak not-available");
    expect(guests.renew(B, first, T + day).kind).toBe("grant");
  });

  it("DECLINE takes nothing from others: one guest cannot empty the pool", () => {
    const guests = new Guests();
    guests.lease(A);
    for (const requested of [first, second]) {
      expect(refusal(guests.send({ type: "decline", mac: C, requested }))).toBe("silence not-the-lease");
    }
    expect(guests.engine.counts()).toMatchObject({ declined: 0 });
  });

  it("a late renewal of an expired lease is granted, sweep or no sweep", () => {
    for (const sweep of [true, false]) {
      const guests = new Guests();
      guests.lease(A);
      const late = T + day + 5000;
      if (sweep) guests.engine.expire(late);
      expect(guests.renew(A, first, late)).toMatchObject({ kind: "grant", lease: { ip: first } });
    }
  });

  // Catalogue 23. Guard: packages/dhcp/src/claims.ts, isOpenTo: an address that cools down is open to the client that
  // had it.
  it("a renewal exactly at the expiry is granted", () => {
    const guests = new Guests();
    guests.lease(A);
    expect(guests.renew(A, first, T + day).kind).toBe("grant");
  });

  // Catalogue 24. Guard: packages/dhcp/src/engine.ts, LeaseEngine.#request: not grantable, not granted.
  it("a restored lease of an address that left the pool is kept, not renewed, and never handed out", () => {
    const records = [leased("10.0.0.50", A, T + hour)];
    const guests = new Guests(new LeaseEngine(optionsWithPool(1), { seq: 1, records }));
    expect(guests.live()).toEqual([`10.0.0.50 ${A}`]);
    expect(guests.engine.counts()).toMatchObject({ pool: 1, free: 1, outside: 1 });
    expect(refusal(guests.renew(A, "10.0.0.50"))).toBe("nak not-in-pool");
    expect(refusal(guests.renew(B, "10.0.0.50"))).toBe("nak not-in-pool");
    expect(guests.engine.expire(T + hour).map(({ lease }) => lease.ip)).toEqual(["10.0.0.50"]);
    expect(guests.engine.counts()).toMatchObject({ pool: 1, free: 1, outside: 0 });
    expect(guests.discover(B, T + 2 * day, "10.0.0.50")).toBe(first);
    expect(guests.discover(C, T + 2 * day)).toBeUndefined();
    expect([...guests.engine.records()]).toEqual([]);
  });

  it("a guest whose address left the pool moves to another one", () => {
    const records = [leased("10.0.0.50", A, T + hour)];
    const guests = new Guests(new LeaseEngine(optionsWithPool(1), { seq: 1, records }));
    expect(guests.discover(A)).toBe(first);
    expect(guests.take(guests.select(A, first)).replaces?.ip).toBe("10.0.0.50");
    expect(guests.live()).toEqual([`${first} ${A}`]);
  });

  it("a freed address rests before anybody else gets it, and its old client may have it at once", () => {
    const guests = new Guests(new LeaseEngine(optionsWithPool(1)));
    guests.lease(A);
    guests.release(A, first);
    expect(guests.discover(B, T + minute - 1)).toBeUndefined();
    expect(guests.discover(A, T + minute - 1)).toBe(first);
    expect(guests.discover(B, T + 2 * minute)).toBe(first);
  });

  it("INFORM is answered", () => {
    const guests = new Guests();
    expect(guests.send({ type: "inform", mac: A, ciaddr: "10.0.0.77" }).kind).toBe("inform-ack");
  });

  it("the client identifier is heeded: a client keeps its address when its MAC changes", () => {
    const guests = new Guests();
    const clientID = "ff0102030405";
    guests.take(guests.send({ type: "request", mac: A, ciaddr: second, clientID }));
    guests.release(A, second);
    expect(guests.send({ type: "discover", mac: B, clientID })).toMatchObject({
      address: parseAddress(second),
    });
  });

  it("relays are served", () => {
    const relayed = new Guests().send({ type: "discover", mac: A, giaddr: "10.0.0.250" });
    expect(relayed.kind).toBe("offer"); // where it goes: server.test.ts
  });

  it("the server identifier is checked", () => {
    const guests = new Guests();
    guests.lease(A);
    for (const type of ["release", "decline"] as const) {
      const decision = guests.send({ type, mac: A, ciaddr: first, requested: first, server: "10.0.0.200" });
      expect(refusal(decision)).toBe("silence other-server");
    }
    expect(guests.live()).toHaveLength(1);
  });
});

describe("expiry", () => {
  it("finds what has ended, and only that, in order, whatever was renewed or released in between", () => {
    const step = fc.tuple(
      fc.constantFrom("lease", "lease", "release"),
      fc.nat({ max: 39 }),
      fc.integer({ min: 1, max: 500 }),
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 60, maxLength: 120 }), (steps) => {
        const guests = new Guests(new LeaseEngine(optionsWithPool(40, { coolDownMs: 0 })));
        const expiries = new Map<string, number>();
        for (const [what, index, seconds] of steps) {
          const [mac, ip] = [macOf(index), `10.0.0.${2 + index}`];
          guests.engine.configure({ leaseMs: seconds * 1000 });
          if (what === "lease") expiries.set(ip, guests.take(guests.renew(mac, ip)).lease.expiry);
          else if (guests.release(mac, ip).kind === "release") expiries.delete(ip);
        }
        while (expiries.size > 0) {
          const next = Math.min(...expiries.values());
          expect(guests.engine.nextExpiry()).toBe(next);
          const due = [...expiries].filter(([, expiry]) => expiry <= next).map(([ip]) => ip);
          const expired = guests.engine.expire(next).map(({ lease }) => lease.ip);
          expect(expired.toSorted()).toEqual(due.toSorted());
          for (const ip of due) expiries.delete(ip);
        }
        expect(guests.live()).toEqual([]);
      }),
    );
  });
});

describe("cost", () => {
  it("finds an address in a nearly full /16 as fast as in an empty one", () => {
    const base = parseAddress("10.0.0.0");
    const pool = Array.from({ length: 65_000 }, (_, index) => base + 2 + index);
    const engine = new LeaseEngine({ ...optionsWithPool(0), subnet: { base, prefix: 16 }, pool });
    // Of this thread's processor, which others on a busy machine do not use up.
    const time = (from: number, count: number): number => {
      const start = process.threadCpuUsage();
      for (let index = from; index < from + count; index++) {
        const mac = macOf(index);
        const offer = engine.handle(request({ type: "discover", mac }), T);
        const ip = offer.kind === "offer" ? offer.address : 0;
        const grant = engine.handle(
          { ...request({ type: "request", mac, server: gateway }), requestedAddress: ip },
          T,
        );
        if (grant.kind === "grant") engine.commit(grant);
      }
      const { user, system } = process.threadCpuUsage(start);
      return (user + system) / 1000;
    };
    time(0, 2000);
    const empty = time(2000, 2000);
    time(4000, 59_000);
    const full = time(63_000, 2000);
    expect(engine.counts()).toMatchObject({ leased: 65_000, free: 0 });
    expect(full).toBeLessThan(Math.max(empty, 5) * 10);
  });
});
