import { InvalidError, parseAddress } from "@cocoon-net/core";
import { type EngineOptions, LeaseEngine, parseReservations, type Reservation } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { macOf, optionsWithPool } from "./client-messages.ts";
import { day, Guests, hour, minute, refusal, T } from "./guests.ts";

const [A, B, C] = [macOf(1), macOf(2), macOf(3)];
const [first, second, third] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"];
const duid = "ff:01:02:03:04";

function reserving(
  reservations: readonly Reservation[],
  size = 3,
  more: Partial<EngineOptions> = {},
): Guests {
  return new Guests(new LeaseEngine(optionsWithPool(size, { reservations, ...more })));
}

describe("a reservation", () => {
  it("by MAC gives its client the address, and keeps it from everybody else", () => {
    const guests = reserving([{ mac: A.toUpperCase(), address: parseAddress(first) }]);
    expect(guests.engine.counts()).toMatchObject({ reserved: 1, free: 2 });
    expect(guests.discover(B, T, first)).toBe(second);
    expect(refusal(guests.select(C, first))).toBe("nak reserved");
    expect(refusal(guests.renew(C, first))).toBe("nak reserved");
    expect(guests.discover(A, T, third)).toBe(first);
    guests.take(guests.select(A, first));
    expect(guests.engine.counts()).toMatchObject({ reserved: 0, leased: 1, pool: 3 });
    guests.release(A, first);
    expect(guests.engine.counts()).toMatchObject({ cooling: 1 });
    expect(guests.discover(C, T + hour)).toBe(third);
    expect(guests.engine.counts()).toMatchObject({ reserved: 1 });
  });

  it("by client identifier follows it to another MAC; the MAC's own reservation comes first", () => {
    const guests = reserving([
      { clientID: duid, address: parseAddress(third) },
      { mac: B, address: parseAddress(second) },
    ]);
    const clientID = duid.replaceAll(":", "");
    const grant = guests.take(guests.send({ type: "request", mac: A, ciaddr: third, clientID }));
    expect(grant.lease).toMatchObject({ ip: third, mac: A, clientID });
    expect(refusal(guests.send({ type: "request", mac: C, ciaddr: third, clientID }))).toBe(
      "nak leased-to-another",
    );
    guests.release(A, third);
    expect(guests.send({ type: "discover", mac: C, clientID }).kind).toBe("offer");
    expect(guests.send({ type: "discover", mac: B, clientID })).toMatchObject({
      address: parseAddress(second),
    });
  });

  it("needs no cool-down of the address for its own client", () => {
    const guests = reserving([]);
    guests.lease(B);
    guests.release(B, first);
    guests.engine.configure({ reservations: [{ mac: A, address: parseAddress(first) }] });
    expect(guests.discover(A, T + 1000)).toBe(first);
  });

  it("made while others hold the address moves them at their next renewal", () => {
    const guests = reserving([]);
    guests.lease(B);
    guests.lease(A);
    guests.engine.configure({ reservations: [{ mac: A, address: parseAddress(first) }] });
    guests.take(guests.renew(A, second, T + minute)); // its own is not to be had yet
    expect(guests.discover(A, T + minute)).toBe(second);
    expect(refusal(guests.renew(B, first, T + hour))).toBe("nak reserved");
    expect(guests.discover(B, T + hour)).toBe(third);
    guests.take(guests.select(B, third, T + hour));
    expect(refusal(guests.renew(A, second, T + 2 * hour))).toBe("nak moved");
    expect(guests.discover(A, T + 2 * hour)).toBe(first);
    const grant = guests.take(guests.select(A, first, T + 2 * hour));
    expect(grant.replaces?.ip).toBe(second);
    expect(guests.live()).toEqual([`${first} ${A}`, `${third} ${B}`]);
  });

  it("moves nobody while nothing may be granted (G7)", () => {
    const guests = reserving([]);
    guests.lease(B);
    guests.lease(A);
    guests.engine.configure({
      reservations: [
        { mac: A, address: parseAddress(third) },
        { mac: C, address: parseAddress(first) },
      ],
      granting: "renew-only",
    });
    guests.take(guests.renew(A, second, T + hour));
    guests.take(guests.renew(B, first, T + hour));
    expect(guests.discover(A, T + hour)).toBe(second);
  });

  it("ends an offer that others have, and goes when it is taken back", () => {
    const guests = reserving([], 1);
    expect(guests.discover(B)).toBe(first);
    guests.engine.configure({ reservations: [{ mac: A, address: parseAddress(first) }] });
    expect(refusal(guests.select(B, first))).toBe("nak reserved");
    expect(refusal(guests.send({ type: "discover", mac: B }))).toBe("silence pool-empty");
    guests.engine.configure({ reservations: [] });
    expect(guests.discover(B)).toBe(first);
  });

  it("whose address is not in the pool, or aside, leaves its client a free one", () => {
    const guests = reserving([{ mac: A, address: parseAddress("10.0.0.200") }]);
    expect(guests.discover(A)).toBe(first);
    const aside = reserving([{ mac: A, address: parseAddress(third) }]);
    aside.lease(A);
    aside.send({ type: "decline", mac: A, requested: third, server: "10.0.0.1" });
    expect(aside.discover(A, T + hour)).toBe(first);
    expect(aside.discover(A, T + day + hour)).toBe(third);
  });

  it("has its own lease time", () => {
    const guests = reserving([{ mac: A, leaseMs: hour }]);
    const grant = guests.lease(A);
    expect([grant.leaseMs, grant.lease.expiry]).toEqual([hour, T + hour]);
    expect(guests.lease(B).leaseMs).toBe(day);
  });

  it.each([
    [[{ address: parseAddress(first) }], "reservation for nobody (10.0.0.2) names neither"],
    [[{ mac: "52:54" }], '"52:54" is not a MAC like 52:54:00:ab:cd:ef'],
    [[{ clientID: "xy" }], 'clientID: "xy" is not hex'],
    [[{ mac: A }, { mac: A.toUpperCase() }], "its MAC has another one too"],
    [
      [
        { mac: A, address: parseAddress(first) },
        { mac: B, address: parseAddress(first) },
      ],
      `reservation for ${B} (10.0.0.2): its address has another one too`,
    ],
    [[{ mac: A, address: parseAddress("10.0.1.2") }], "(10.0.1.2) is not in subnet 10.0.0.0/24"],
    [[{ mac: A, leaseMs: 5 }], "leaseMs is 5"],
    [[{ mac: A, options: { mtu: 1 } }], `reservation for ${A}: options: mtu is 1`],
  ] satisfies [Reservation[], string][])("that is wrong is refused: %j", (reservations, message) => {
    expect(() => reserving(reservations)).toThrow(InvalidError);
    expect(() => reserving(reservations)).toThrow(message);
  });
});

describe("reservations of a file", () => {
  it("are read with what they give", () => {
    const entry = { mac: A, address: first, leaseMs: hour, options: { mtu: 1450 } };
    expect(parseReservations([entry, { clientID: duid }], "node.yaml")).toEqual([
      { ...entry, address: parseAddress(first) },
      { clientID: duid },
    ]);
  });

  it.each([
    [{}, "node.yaml is {}; it must be a list"],
    [["x"], "node.yaml: entry 1 is not a mapping"],
    [[{ mac: A }, { hostname: "x" }], 'node.yaml: entry 2 has no setting "hostname"'],
    [[{ mac: 5 }], "node.yaml: entry 1: mac is 5; it must be a text"],
    [[{ mac: A, leaseMs: "1h" }], 'node.yaml: entry 1: leaseMs is "1h"; it must be a number'],
    [[{ mac: A, address: "10.0" }], 'node.yaml: entry 1: address "10.0" is not an IPv4 address'],
    [[{ mac: A, options: { mtu: 1 } }], "node.yaml: entry 1: options: mtu is 1"],
    [[{ address: first }], "reservation for nobody (10.0.0.2) names neither"],
  ])("are refused in one clear line: %j", (value, message) => {
    expect(() => parseReservations(value, "node.yaml")).toThrow(message);
  });
});
