import type { LeaseRecord } from "@cocoon-net/core";
import type { AddressRecord } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { examineRoutes, parseArpTable, putAside } from "../src/unaccounted-routes.ts";
import { unknownLeases } from "../src/unknown-leases.ts";

const now = Date.parse("2026-11-24T12:00:00Z");
const later = now + 3_600_000;

function stored(ip: string, mac: string, expiry: number, seq: number, node = "n1"): [string, LeaseRecord] {
  return [ip, { node, mac, expiry: new Date(expiry).toISOString(), seq }];
}

describe("leases that only the store knows", () => {
  it("are taken in with numbers above all that were seen", () => {
    const found = unknownLeases(
      { seq: 3, records: [] },
      new Map([
        stored("10.0.0.7", "52:54:00:00:00:07", later, 57),
        stored("10.0.0.8", "52:54:00:00:00:08", later, 9),
      ]),
      "n1",
      now,
    );
    expect(found.map(({ ip, seq }) => [ip, seq])).toEqual([
      ["10.0.0.7", 58],
      ["10.0.0.8", 59],
    ]);
  });

  it("are not those that ended here, are older than ours, have run out, or are another node's", () => {
    const mac = "52:54:00:00:00:01";
    const records: AddressRecord[] = [
      { state: "ended", ip: "10.0.0.2", until: now, mac, expiry: later, seq: 5 },
      { state: "leased", ip: "10.0.0.3", mac: "52:54:00:00:00:03", expiry: later + 1_000, seq: 6 },
    ];
    const store = new Map([
      stored("10.0.0.2", mac, later, 5),
      stored("10.0.0.3", "52:54:00:00:00:03", later, 4),
      stored("10.0.0.4", "52:54:00:00:00:03", later, 3), // that client has moved since
      stored("10.0.0.5", "52:54:00:00:00:05", now, 2),
      stored("10.0.0.6", "52:54:00:00:00:06", later, 2, "n2"),
    ]);
    expect(unknownLeases({ seq: 6, records }, store, "n1", now)).toEqual([]);
    // A newer lease of the same address is one that a lost file forgot.
    const newer = new Map([stored("10.0.0.2", "52:54:00:00:00:09", later + 5_000, 8)]);
    expect(unknownLeases({ seq: 6, records }, newer, "n1", now)).toMatchObject([{ ip: "10.0.0.2", seq: 9 }]);
  });

  it("are, of two of one client, the newer one", () => {
    const mac = "52:54:00:00:00:01";
    const store = new Map([stored("10.0.0.2", mac, later, 5), stored("10.0.0.3", mac, later + 1_000, 6)]);
    expect(unknownLeases({ seq: 0, records: [] }, store, "n1", now)).toMatchObject([{ ip: "10.0.0.3" }]);
  });
});

describe("routes that stand at the start", () => {
  it("are told apart: of leases, of ended leases, of nobody we know", () => {
    const records: AddressRecord[] = [
      { state: "leased", ip: "10.0.0.2", mac: "52:54:00:00:00:02", expiry: later, seq: 1 },
      { state: "ended", ip: "10.0.0.3", until: now, mac: "52:54:00:00:00:03", expiry: now, seq: 2 },
      putAside("10.0.0.4", "52:54:00:00:00:04", later),
      putAside("10.0.0.5", undefined, later),
    ];
    const ips = [2, 3, 4, 5, 6].map((n) => `10.0.0.${n}`);
    expect(examineRoutes([...ips, "10.9.9.9"], ips, { seq: 2, records })).toEqual({
      stale: ["10.0.0.3"],
      unexplained: ["10.0.0.6"],
    });
  });

  it("have the neighbour behind them that the kernel has seen on the bridge", () => {
    const text = `IP address       HW type     Flags       HW address            Mask     Device
10.0.0.2         0x1         0x2         52:54:00:AA:00:02     *        cni0
10.0.0.3         0x1         0x0         00:00:00:00:00:00     *        cni0
10.0.0.4         0x1         0x6         52:54:00:aa:00:04     *        cni0
10.0.0.5         0x1         0x2         52:54:00:aa:00:05     *        eth0
`;
    expect([...parseArpTable(text, "cni0")]).toEqual([
      ["10.0.0.2", "52:54:00:aa:00:02"],
      ["10.0.0.4", "52:54:00:aa:00:04"],
    ]);
  });
});
