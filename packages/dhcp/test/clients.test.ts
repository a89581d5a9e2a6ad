import { parseAddress } from "@cocoon-net/core";
import { type EngineOptions, LeaseEngine } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { gateway, macOf, optionsWithPool } from "./client-messages.ts";
import { day, Guests, hour, minute, refusal, T } from "./guests.ts";

const [A, B, C, D] = [macOf(1), macOf(2), macOf(3), macOf(4)];
const [first, second, third] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"];
const romID = "00deadbeef";
const osID = "ff11223344";

const guestsOf = (size: number, more: Partial<EngineOptions> = {}): Guests =>
  new Guests(new LeaseEngine(optionsWithPool(size, more)));
const restarted = (guests: Guests, size: number): Guests =>
  new Guests(
    new LeaseEngine(optionsWithPool(size), { seq: guests.engine.seq, records: [...guests.engine.records()] }),
  );

describe("who a client is", () => {
  it("a VM that PXE-boots and then boots its system has one address", () => {
    const guests = guestsOf(3);
    expect(guests.send({ type: "discover", mac: A, clientID: romID })).toMatchObject({
      address: parseAddress(first),
    });
    guests.take(guests.send({ type: "request", mac: A, requested: first, server: gateway, clientID: romID }));
    expect(guests.send({ type: "discover", mac: A, clientID: osID })).toMatchObject({
      address: parseAddress(first),
    });
    const grant = guests.take(
      guests.send({ type: "request", mac: A, requested: first, server: gateway, clientID: osID }),
    );
    expect(grant.renews).toBeDefined();
    expect(guests.live()).toEqual([`${first} ${A}`]);
  });

  it("VMs cloned from one image, with one client identifier, have an address each", () => {
    const guests = guestsOf(3);
    for (const mac of [A, B]) {
      const offer = guests.send({ type: "discover", mac, clientID: osID });
      if (offer.kind !== "offer") throw new Error("no offer");
      guests.take(
        guests.send({
          type: "request",
          mac,
          clientID: osID,
          requested: `10.0.0.${offer.address & 255}`,
          server: gateway,
        }),
      );
    }
    expect(guests.live()).toEqual([`${first} ${A}`, `${second} ${B}`]);
  });

  it("a client that comes back with another MAC gets what its client identifier had, over a restart too", () => {
    const guests = guestsOf(3);
    guests.lease(C);
    guests.take(guests.send({ type: "request", mac: A, ciaddr: second, clientID: osID }));
    guests.release(A, second);
    const again = restarted(guests, 3);
    expect(again.send({ type: "discover", mac: D }, T + 1000)).toMatchObject({
      address: parseAddress(third),
    });
    expect(again.send({ type: "discover", mac: B, clientID: osID }, T + 1000)).toMatchObject({
      address: parseAddress(second),
    });
  });
});

describe("placement by hash", () => {
  const size = 200;
  const hashed = (): Guests => guestsOf(size, { placement: "hash" });

  it("gives a client the same address again when every record is lost", () => {
    const macs = Array.from({ length: 20 }, (_, index) => macOf(1000 + index));
    const addresses = (guests: Guests, order: readonly string[]): Map<string, string | undefined> =>
      new Map(order.map((mac) => [mac, guests.discover(mac)]));
    const before = addresses(hashed(), macs);
    const after = addresses(hashed(), macs.toReversed());
    const same = macs.filter((mac) => before.get(mac) === after.get(mac));
    // Two that point to the same address depend on the order; they are few.
    expect(same.length).toBeGreaterThan(14);
    expect(new Set(before.values()).size).toBe(macs.length);
  });

  it("prefers an address never used to a candidate that was, and spreads clients over the pool", () => {
    const guests = hashed();
    const ip = guests.lease(A).lease.ip;
    expect(guests.discover(A)).toBe(ip);
    // Find another client that points to the same address.
    const rival = Array.from({ length: 2000 }, (_, index) => macOf(5000 + index)).find(
      (mac) => hashed().discover(mac) === ip,
    );
    guests.release(A, ip);
    expect(rival).toBeDefined();
    expect(guests.discover(rival ?? "", T + hour)).not.toBe(ip);
  });
});

describe("an offer that nobody requests", () => {
  it("gives way after 10 s when the pool is empty, so that DISCOVERs alone starve nobody", () => {
    const guests = guestsOf(2);
    guests.discover(A);
    guests.discover(B, T + 1000);
    expect(guests.discover(C, T + 9999)).toBeUndefined();
    expect(guests.discover(C, T + 10_000)).toBe(first);
    expect(refusal(guests.select(A, first, T + 10_001))).toBe("nak offered-to-another");
    guests.take(guests.select(C, first, T + 10_001));
    guests.take(guests.select(B, second, T + 10_001));
    expect(guests.live()).toEqual([`${first} ${C}`, `${second} ${B}`]);
  });

  it("stays once it is requested, however long that takes (G2)", () => {
    const guests = guestsOf(1);
    guests.discover(A);
    const grant = guests.select(A, first);
    expect(guests.discover(B, T + 30_000)).toBeUndefined();
    guests.take(grant);
  });
});

describe("limits", () => {
  it("of leases per bridge port: offers count, renewals do not, other ports are free", () => {
    const guests = guestsOf(20, { leasesPerPort: 2 });
    const discover = (mac: string, port?: string, now = T): string => {
      const decision = guests.engine.handle(
        {
          type: "discover",
          mac,
          ciaddr: 0,
          giaddr: 0,
          requestedAddress: undefined,
          serverID: undefined,
          clientID: undefined,
          hostname: undefined,
        },
        now,
        port,
      );
      return decision.kind === "silence" ? decision.reason : decision.kind;
    };
    expect([A, B, C].map((mac) => discover(mac, "p1"))).toEqual(["offer", "offer", "port-limit"]);
    expect(discover(A, "p1")).toBe("offer");
    guests.take(guests.select(A, first));
    expect(discover(C, "p1")).toBe("port-limit");
    expect(discover(C, "p2")).toBe("offer");
    expect(discover(D)).toBe("offer");
    // Nobody gets out of the count by asking again, or by moving to another address.
    expect(discover(B)).toBe("offer");
    guests.take(guests.select(A, "10.0.0.12"));
    expect(discover(macOf(9), "p1")).toBe("port-limit");
    guests.release(A, "10.0.0.12");
    expect(discover(macOf(9), "p1")).toBe("offer");
    // Offers end, and with them what they counted.
    expect([macOf(11), macOf(12)].map((mac) => discover(mac, "p1", T + hour))).toEqual(["offer", "offer"]);
  });

  it("of DECLINEs per client: one guest cannot put the pool aside, address by address", () => {
    const guests = guestsOf(20);
    for (let round = 0; round < 10; round++) {
      const { lease } = guests.lease(A, T + round);
      guests.send({ type: "decline", mac: A, requested: lease.ip, server: gateway }, T + round);
    }
    expect(guests.engine.counts()).toMatchObject({ declined: 4, leased: 0 });
    const later = T + 2 * day;
    const { lease } = guests.lease(A, later);
    guests.send({ type: "decline", mac: A, requested: lease.ip, server: gateway }, later);
    expect(guests.engine.counts()).toMatchObject({ declined: 1 });
  });
});

describe("relays", () => {
  it("of other networks, and those that cannot be one, get no answer", () => {
    const guests = guestsOf(3);
    const relayed = (giaddr: string): string => refusal(guests.send({ type: "discover", mac: A, giaddr }));
    expect(relayed("10.0.0.77")).toBe("offer");
    expect(relayed("10.0.1.77")).toBe("silence foreign-subnet");
    for (const giaddr of [gateway, "10.0.0.0", "10.0.0.255"])
      expect(relayed(giaddr)).toBe("silence bad-relay");
    expect(relayed("255.255.255.255")).toBe("silence foreign-subnet");
  });

  it("or clients that name a foreign subnet (118, or 82 sub-option 5) get no answer", () => {
    const guests = guestsOf(3);
    const named = (network: string): string =>
      refusal(guests.send({ type: "discover", mac: A, giaddr: "10.0.0.77", network }));
    expect(named("10.0.0.0")).toBe("offer");
    expect(named("192.168.1.0")).toBe("silence foreign-subnet");
  });
});

describe("rapid commit (RFC 4039)", () => {
  const ask = (guests: Guests, mac: string, now = T): string => {
    const decision = guests.send({ type: "discover", mac, rapidCommit: true }, now);
    if (decision.kind === "grant") guests.take(decision);
    return decision.kind;
  };

  it("grants at once when it is on, to those who ask", () => {
    expect(ask(guestsOf(3), A)).toBe("offer");
    const guests = guestsOf(3, { rapidCommit: true });
    expect(refusal(guests.send({ type: "discover", mac: B }))).toBe("offer");
    expect(ask(guests, A)).toBe("grant");
    expect(ask(guests, A)).toBe("grant");
    expect(guests.live()).toEqual([`${second} ${A}`]);
  });

  it("offers an address that others had, so that it can be probed first", () => {
    const guests = guestsOf(1, { rapidCommit: true });
    ask(guests, A);
    guests.release(A, first);
    expect(ask(guests, B, T + hour)).toBe("offer");
    expect(guests.send({ type: "discover", mac: B }, T + hour)).toMatchObject({ probe: true });
    const back = guestsOf(1, { rapidCommit: true });
    ask(back, A);
    back.release(A, first);
    expect(ask(back, A, T + minute)).toBe("grant");
  });

  it("grants nothing new in renew-only", () => {
    const guests = guestsOf(3, { rapidCommit: true });
    ask(guests, A);
    guests.engine.configure({ granting: "renew-only" });
    expect(ask(guests, A)).toBe("grant");
    expect(refusal(guests.send({ type: "discover", mac: B, rapidCommit: true }))).toBe("silence renew-only");
  });
});

describe("a probe before the offer", () => {
  it("is asked for when others had the address; what it finds in use goes aside for the time of a DECLINE", () => {
    const guests = guestsOf(2);
    expect(guests.send({ type: "discover", mac: A })).toMatchObject({ probe: false });
    guests.lease(A);
    expect(guests.send({ type: "discover", mac: A })).toMatchObject({ probe: false });
    guests.release(A, first);
    guests.lease(C, T + 1000);
    expect(guests.send({ type: "discover", mac: B }, T + hour)).toMatchObject({
      address: parseAddress(first),
      probe: true,
    });
    const record = guests.engine.putAside(parseAddress(first), T + hour);
    expect(record).toMatchObject({ state: "declined", ip: first, until: T + hour + day });
    expect(guests.discover(B, T + hour)).toBeUndefined();
    expect(restarted(guests, 2).engine.counts()).toMatchObject({ declined: 1 });
    expect(guests.engine.putAside(parseAddress(second), T + hour)).toBeUndefined();
    expect(guests.engine.putAside(parseAddress("10.9.9.9"), T + hour)).toBeUndefined();
  });
});

describe("VMs", () => {
  it("give their id to the leases of their MACs, before or after the grant, over a restart too", () => {
    const guests = guestsOf(3);
    expect(guests.engine.assignVm("vm-a", A, T)).toEqual({ isPending: false });
    expect(guests.lease(A).lease.vmID).toBe("vm-a");
    guests.lease(B);
    const { assigned } = guests.engine.assignVm("vm-b", B, T);
    expect(assigned).toMatchObject({
      lease: { mac: B, vmID: "vm-b", seq: 2 },
      record: { state: "leased", vmID: "vm-b" },
    });
    expect(guests.engine.assignVm("vm-b", B, T)).toEqual({ isPending: false });
    expect(guests.take(guests.renew(B, second, T + hour)).lease.vmID).toBe("vm-b");
    expect(restarted(guests, 3).engine.removeVm("vm-b", T + hour)).toMatchObject([{ lease: { ip: second } }]);
  });

  it("that are gone leave nothing: the lease ends at once, and the next VM with that MAC inherits nothing (G12)", () => {
    const guests = guestsOf(3);
    guests.engine.assignVm("vm-a", A, T);
    guests.take(guests.send({ type: "request", mac: A, ciaddr: second, clientID: osID }));
    const ended = guests.engine.removeVm("vm-a", T + hour);
    expect(ended).toMatchObject([
      { lease: { ip: second, mac: A }, record: { state: "ended", ip: second, seq: 1 } },
    ]);
    expect(ended[0]?.record).not.toHaveProperty("mac");
    expect(ended[0]?.record).not.toHaveProperty("clientID");
    expect(guests.engine.removeVm("vm-a", T + hour)).toEqual([]);
    for (const one of [guests, restarted(guests, 3)]) {
      const offer = one.send({ type: "discover", mac: A, clientID: osID }, T + hour + 1000);
      expect(offer).toMatchObject({ address: parseAddress(first) });
    }
  });

  // Catalogue 25. Guard: packages/dhcp/src/bindings.ts, Bindings.endClient: a VM's lease ends with it.
  it("a deleted VM's address goes to another VM after the cool-down, not at the lease's end (cloudstack#10436)", () => {
    const guests = guestsOf(1);
    guests.engine.assignVm("vm-a", A, T);
    guests.lease(A);
    guests.engine.removeVm("vm-a", T + hour);
    expect(guests.discover(B, T + hour + minute - 1)).toBeUndefined();
    expect(guests.discover(B, T + hour + minute)).toBe(first);
    guests.take(guests.select(B, first, T + hour + minute));
  });

  it("are known by a MAC alone where they are gone: the same ends, and the next VM with it is another", () => {
    const guests = guestsOf(3);
    guests.engine.assignVm("vm-a", A, T);
    guests.lease(A);
    guests.lease(B);
    expect(guests.engine.removeMac(A, T + hour)).toMatchObject([{ lease: { ip: first, vmID: "vm-a" } }]);
    expect(guests.engine.removeMac(A, T + hour)).toEqual([]);
    expect(guests.engine.removeVm("vm-a", T + hour)).toEqual([]);
    expect(guests.live()).toEqual([`${second} ${B}`]);
    expect(guests.discover(A, T + hour)).not.toBe(first);
    expect(guests.engine.removeMac(B, T + hour)).toMatchObject([{ lease: { ip: second } }]);
  });

  it("have MACs", () => {
    expect(() => guestsOf(1).engine.assignVm("vm-a", "A", T)).toThrow('"A" of VM vm-a is not a MAC');
  });

  it("that take a MAC over end the lease of the one before", () => {
    const guests = guestsOf(3);
    guests.engine.assignVm("vm-a", A, T);
    guests.lease(A);
    const change = guests.engine.assignVm("vm-b", A, T + 1000);
    expect(change).toMatchObject({ ended: { lease: { ip: first, vmID: "vm-a" } } });
    expect(guests.live()).toEqual([]);
    expect(guests.engine.removeVm("vm-a", T + 1000)).toEqual([]);
    expect(guests.take(guests.send({ type: "request", mac: A, ciaddr: second }, T + 1000)).lease.vmID).toBe(
      "vm-b",
    );
  });

  it("that go while a grant is being written do not get it", () => {
    const guests = guestsOf(2);
    guests.engine.assignVm("vm-a", A, T);
    guests.discover(A);
    const grant = guests.select(A, first);
    if (grant.kind !== "grant") throw new Error("not a grant");
    expect(guests.engine.removeVm("vm-a", T)).toEqual([]);
    expect(guests.engine.commit(grant)).toBe(false);
    expect(guests.engine.abort(grant)).toMatchObject([{ state: "ended", ip: first }]);
    expect(guests.engine.counts()).toMatchObject({ free: 2, offered: 0, leased: 0 });
  });

  it("that go while a renewal is being written lose the lease when it is settled", () => {
    const guests = guestsOf(2);
    guests.engine.assignVm("vm-a", A, T);
    guests.lease(A);
    const renewal = guests.renew(A, first, T + hour);
    if (renewal.kind !== "grant") throw new Error("not a grant");
    expect(guests.engine.assignVm("vm-a", A, T + hour)).toEqual({ isPending: true });
    expect(guests.engine.removeVm("vm-a", T + hour)).toEqual([]);
    expect(guests.engine.commit(renewal)).toBe(false);
    guests.engine.abort(renewal);
    expect(guests.engine.expire(T + hour)).toMatchObject([
      { lease: { ip: first }, record: { state: "ended" } },
    ]);
    expect(guests.live()).toEqual([]);
    expect(guests.engine.counts()).toMatchObject({ cooling: 1, free: 1 });
    expect(guests.discover(A, T + hour)).toBe(second); // the next VM with that MAC
  });

  it("made known while a grant is being written is asked again", () => {
    const guests = guestsOf(2);
    guests.discover(A);
    const grant = guests.select(A, first);
    expect(guests.engine.assignVm("vm-a", A, T)).toEqual({ isPending: true });
    guests.take(grant);
    expect(guests.engine.assignVm("vm-a", A, T)).toMatchObject({ assigned: { lease: { vmID: "vm-a" } } });
  });
});
