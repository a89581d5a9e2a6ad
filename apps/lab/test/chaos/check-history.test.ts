import { describe, expect, it } from "vitest";
import { checkHistory } from "../../src/chaos/check-history.ts";
import { fromLines, type HistoryEntry, toLines } from "../../src/chaos/history.ts";
import { readGuestLog } from "../../src/chaos/recorder.ts";

type Lease = Extract<HistoryEntry, { kind: "lease" }>;

const second = 1_000;
const block = "172.20.0.0/24";

function lease(guest: string, at: number, more: Partial<Lease> = {}): Lease {
  const mac = `52:54:00:00:00:0${guest.at(-1)}`;
  const held = { node: "n1", guest, mac, ip: "172.20.0.5", until: at + 24 * second, renewal: false };
  return { kind: "lease", at, ...held, ...more };
}

function owner(node: string, at: number, revision: number, subnet?: string): HistoryEntry {
  return { kind: "owner", at, revision, node, subnet };
}

function gone(guest: string, at: number): HistoryEntry {
  return { kind: "lease-end", at, guest, reason: "gone" };
}

function kinds(...history: HistoryEntry[]): string[] {
  return checkHistory(fromLines(toLines(history))).map(({ kind }) => kind);
}

const rests = (at: number): HistoryEntry[] => [{ kind: "rest", at }];

it("a life without faults breaks nothing", () => {
  const history: HistoryEntry[] = [
    { kind: "instance", at: 0, node: "n1", running: true },
    owner("n1", 0, 5, block),
    lease("g1", second),
    lease("g1", 13 * second, { renewal: true }),
    {
      kind: "leases-file",
      at: 20 * second,
      node: "n1",
      leases: [{ mac: "52:54:00:00:00:01", ip: "172.20.0.5" }],
    },
    { kind: "mirror", at: 30 * second, node: "n1", mac: "52:54:00:00:00:01", ip: "172.20.0.5" },
    ...rests(30 * second),
    gone("g1", 35 * second),
    lease("g2", 36 * second),
    { kind: "instance", at: 50 * second, node: "n1", running: false },
    gone("g2", 50 * second),
    { kind: "taken", at: 60 * second, node: "n1", subnet: block },
    owner("n1", 60 * second, 9),
    owner("n2", 70 * second, 11, block),
    lease("g3", 75 * second, { node: "n2" }),
  ];
  expect(kinds(...history)).toEqual([]);
});

describe("two owners", () => {
  it("of one block, or of blocks that overlap", () => {
    expect(kinds(owner("n1", 0, 5, block), owner("n2", 10, 6, block))).toEqual(["two-owners"]);
    expect(kinds(owner("n1", 0, 5, "172.20.0.0/23"), owner("n2", 10, 6, "172.20.1.0/24"))).toEqual([
      "two-owners",
    ]);
  });

  it("are told by the store's order, not by the order of its news", () => {
    const changes = [owner("n1", 0, 5, block), owner("n2", 10, 7, block), owner("n1", 20, 6)];
    expect(kinds(...changes)).toEqual([]);
    expect(kinds(owner("n1", 0, 5, block), owner("n1", 10, 7), owner("n2", 20, 6, block))).toEqual([
      "two-owners",
    ]);
  });

  it("are none where one transaction takes from one and gives to the other", () => {
    expect(kinds(owner("n1", 0, 5, block), owner("n2", 10, 6, block), owner("n1", 10, 6))).toEqual([]);
  });
});

describe("two grants", () => {
  it("of an address at a time, by one node or by two", () => {
    expect(kinds(lease("g1", 0), lease("g2", 10 * second))).toEqual(["two-grants"]);
    expect(kinds(lease("g1", 0), lease("g2", 10 * second, { node: "n2" }))).toEqual(["two-grants"]);
  });

  it("also when the first holds it by a renewal only", () => {
    const renewed = lease("g1", 12 * second, { renewal: true });
    expect(kinds(lease("g1", 0), renewed, lease("g2", 30 * second))).toEqual(["two-grants"]);
  });

  it("are none once the first has gone, was refused, or its time is over", () => {
    expect(kinds(lease("g1", 0), gone("g1", 9 * second), lease("g2", 10 * second))).toEqual([]);
    expect(kinds(lease("g1", 0), lease("g2", 25 * second))).toEqual([]);
    const other = lease("g1", 9 * second, { ip: "172.20.0.6" });
    expect(kinds(lease("g1", 0), other, lease("g2", 10 * second))).toEqual([]);
  });
});

describe("a lost grant", () => {
  const file = (at: number, ...ips: string[]): HistoryEntry => {
    const leases = ips.map((ip) => ({ mac: "52:54:00:00:00:01", ip }));
    return { kind: "leases-file", at, node: "n1", leases };
  };

  it("is one that leases.json does not say, with its own MAC, though the guest holds it", () => {
    expect(kinds(lease("g1", 0), file(10 * second))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), file(10 * second, "172.20.0.6"))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0, { mac: "52:54:00:00:00:09" }), file(10 * second, "172.20.0.5"))).toEqual([
      "lost-grant",
    ]);
  });

  it("is told once", () => {
    expect(kinds(lease("g1", 0), file(10 * second), file(11 * second))).toEqual(["lost-grant"]);
  });

  it("is none of another node, of another time, or just being written", () => {
    expect(kinds(lease("g1", 0, { node: "n2" }), file(10 * second))).toEqual([]);
    expect(kinds(lease("g1", 0), file(30 * second))).toEqual([]);
    expect(kinds(lease("g1", 0), file(second))).toEqual([]);
  });

  it("is one that the store does not know, or says of another, when all is at rest", () => {
    const mirror: HistoryEntry = {
      kind: "mirror",
      at: 10 * second,
      node: "n2",
      mac: "52:54:00:00:00:01",
      ip: "172.20.0.5",
    };
    expect(kinds(lease("g1", 0), ...rests(10 * second))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), mirror, ...rests(10 * second))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), { ...mirror, node: "n1" }, ...rests(10 * second))).toEqual([]);
  });

  it("is one that its node refuses to renew, unless its block was taken", () => {
    const refused: HistoryEntry = { kind: "lease-end", at: 12 * second, guest: "g1", reason: "refused" };
    const taken: HistoryEntry = { kind: "taken", at: 11 * second, node: "n1", subnet: block };
    expect(kinds(lease("g1", 0), refused)).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), taken, refused)).toEqual([]);
    expect(kinds(refused)).toEqual([]);
  });
});

describe("a grant without a subnet", () => {
  it("is a new one after the block is gone, until the node has one again", () => {
    const lost = [owner("n1", 0, 5, block), owner("n1", 10 * second, 6)];
    expect(kinds(...lost, lease("g1", 20 * second))).toEqual(["grant-without-subnet"]);
    expect(kinds(...lost, owner("n1", 15 * second, 7, block), lease("g1", 20 * second))).toEqual([]);
    expect(kinds(...lost, lease("g1", 11 * second))).toEqual([]);
  });
});

it("a block is taken from the living when the instance never stopped", () => {
  const taken: HistoryEntry = { kind: "taken", at: 60 * second, node: "n1", subnet: block };
  const running: HistoryEntry = { kind: "instance", at: 0, node: "n1", running: true };
  const stopped: HistoryEntry = { kind: "instance", at: 40 * second, node: "n1", running: false };
  expect(kinds(running, taken)).toEqual(["taken-from-the-living"]);
  expect(kinds(running, stopped, taken)).toEqual([]);
  expect(kinds(running, { ...stopped, at: 90 * second }, taken)).toEqual(["taken-from-the-living"]);
});

it("what a guest's client writes down is read", () => {
  const text =
    "1000 deconfig g1 52:54:00:00:00:01 - -\n2000 bound g1 52:54:00:00:00:01 172.20.0.5 24\n" +
    "14000 renew g1 52:54:00:00:00:01 172.20.0.5 24\n26000 nak g1 52:54:00:00:00:01 - -\n";
  expect(readGuestLog(text, "n1")).toEqual([
    { kind: "lease-end", at: 1_000, guest: "g1", reason: "deconfigured" },
    lease("g1", 2_000),
    lease("g1", 14_000, { renewal: true }),
    { kind: "lease-end", at: 26_000, guest: "g1", reason: "refused" },
  ]);
});
