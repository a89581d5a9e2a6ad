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

function taken(at: number, revision = 8): HistoryEntry {
  return { kind: "taken", at, revision, node: "n1", subnet: block };
}

function file(node: string, at: number, leases: readonly string[], cutOff = false): HistoryEntry {
  const listed = leases.map((ip) => ({ mac: "52:54:00:00:00:01", ip }));
  return { kind: "leases-file", at, node, leases: listed, cutOff };
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
    file("n1", 20 * second, ["172.20.0.5"]),
    { kind: "delivered", at: 30 * second, node: "n1", ip: "172.20.0.5" },
    { kind: "mirror", at: 30 * second, node: "n1", mac: "52:54:00:00:00:01", ip: "172.20.0.5" },
    ...rests(30 * second),
    gone("g1", 35 * second),
    lease("g2", 36 * second),
    { kind: "instance", at: 50 * second, node: "n1", running: false },
    gone("g2", 50 * second),
    taken(60 * second),
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
  const owned = owner("n1", -10 * second, 1, block);

  it("is one that leases.json does not say, with its own MAC, though the guest holds it", () => {
    const kindsWith = (held: HistoryEntry, ...ips: string[]) =>
      kinds(owned, held, file("n1", 10 * second, ips));
    expect(kindsWith(lease("g1", 0))).toEqual(["lost-grant"]);
    expect(kindsWith(lease("g1", 0), "172.20.0.6")).toEqual(["lost-grant"]);
    expect(kindsWith(lease("g1", 0, { mac: "52:54:00:00:00:09" }), "172.20.0.5")).toEqual(["lost-grant"]);
  });

  it("is told once", () => {
    const files = [10, 11].map((at) => file("n1", at * second, []));
    expect(kinds(owned, lease("g1", 0), ...files)).toEqual(["lost-grant"]);
  });

  it("is none of another node, of another time, or just being written", () => {
    expect(kinds(owned, lease("g1", 0), file("n2", 10 * second, []))).toEqual([]);
    expect(kinds(owned, lease("g1", 0), file("n1", 30 * second, []))).toEqual([]);
    expect(kinds(owned, lease("g1", 0), file("n1", second, []))).toEqual([]);
  });

  it("is one that the store or the cloud does not know, or says of another, when all is at rest", () => {
    const at = 10 * second;
    const mirror = (node: string): HistoryEntry => {
      return { kind: "mirror", at, node, mac: "52:54:00:00:00:01", ip: "172.20.0.5" };
    };
    const delivered = (node: string): HistoryEntry => ({ kind: "delivered", at, node, ip: "172.20.0.5" });
    expect(kinds(lease("g1", 0), delivered("n1"), ...rests(at))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), mirror("n2"), delivered("n1"), ...rests(at))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), mirror("n1"), ...rests(at))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), mirror("n1"), delivered("n2"), ...rests(at))).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), mirror("n1"), delivered("n1"), ...rests(at))).toEqual([]);
  });

  it("is one that its node refuses to renew, unless its block was taken", () => {
    const refused: HistoryEntry = { kind: "lease-end", at: 12 * second, guest: "g1", reason: "refused" };
    expect(kinds(lease("g1", 0), refused)).toEqual(["lost-grant"]);
    expect(kinds(lease("g1", 0), taken(11 * second), refused)).toEqual([]);
    expect(kinds(refused)).toEqual([]);
  });
});

describe("a lease that was not renewed", () => {
  const calm = (node: string, ...at: number[]) => at.map((each) => file(node, each * second, ["172.20.0.5"]));
  const lastHalf = [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
  const after = gone("g2", 60 * second);

  it("has run out although its node ran all the time", () => {
    const owned = owner("n1", -10 * second, 1, block);
    expect(kinds(owned, lease("g1", 0), ...calm("n1", ...lastHalf), after)).toEqual(["not-renewed"]);
  });

  it("is none where the guest has gone, the node did not run, or no longer owns the block", () => {
    const owned = owner("n1", -10 * second, 1, block);
    const files = calm("n1", ...lastHalf);
    expect(kinds(owned, lease("g1", 0), ...files, gone("g1", 20 * second), after)).toEqual([]);
    expect(kinds(owned, lease("g1", 0), ...files.slice(0, 5), after)).toEqual([]);
    expect(kinds(owned, lease("g1", 0), owner("n1", 14 * second, 2), ...files, after)).toEqual([]);
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

it("a block is taken from the living when the instance never stopped, and nobody drained it", () => {
  const running: HistoryEntry = { kind: "instance", at: 0, node: "n1", running: true };
  const stopped: HistoryEntry = { kind: "instance", at: 40 * second, node: "n1", running: false };
  const status = (status: "draining" | "fencing" | "suspect", revision: number): HistoryEntry => {
    return { kind: "status", at: revision * second, revision, node: "n1", status };
  };
  const draining = [running, status("draining", 5), status("fencing", 7), taken(60 * second)];
  expect(kinds(running, taken(60 * second))).toEqual(["taken-from-the-living"]);
  expect(kinds(running, stopped, taken(60 * second))).toEqual([]);
  expect(kinds(running, { ...stopped, at: 90 * second }, taken(60 * second))).toEqual([
    "taken-from-the-living",
  ]);
  expect(kinds(...draining)).toEqual([]);
  expect(kinds(...draining, status("suspect", 6))).toEqual(["taken-from-the-living"]);
  expect(kinds(...draining, lease("g1", 50 * second))).toEqual(["taken-from-guests"]);
  expect(kinds(...draining, lease("g1", 50 * second), gone("g1", 55 * second))).toEqual([]);
});

it("nothing is taken or freed while that is paused, by the store's order", () => {
  const paused = (revision: number, paused: boolean): HistoryEntry => {
    return { kind: "pause", at: revision * second, revision, paused };
  };
  const freed: HistoryEntry = { kind: "freed", at: second, revision: 8, subnet: block };
  const during = [paused(5, true), paused(9, false)];
  expect(kinds(...during, taken(0, 8))).toEqual(["freed-while-paused"]);
  expect(kinds(...during, freed)).toEqual(["freed-while-paused"]);
  expect(kinds(...during, taken(0, 4), taken(0, 10), { ...freed, revision: 11 })).toEqual([]);
});

it("what a guest's client writes down is read", () => {
  const text =
    "1000 deconfig g1 52:54:00:00:00:01 - -\n2000 bound g1 52:54:00:00:00:01 172.20.0.5 24\n" +
    "14000 renew g1 52:54:00:00:00:01 172.20.0.5 24\n26000 nak g1 52:54:00:00:00:01 - -\n";
  expect(readGuestLog(text, () => "n1")).toEqual([
    { kind: "lease-end", at: 1_000, guest: "g1", reason: "deconfigured" },
    lease("g1", 2_000),
    lease("g1", 14_000, { renewal: true }),
    { kind: "lease-end", at: 26_000, guest: "g1", reason: "refused" },
  ]);
});
