import { describe, expect, it } from "vitest";
import { checkHistory } from "../../src/chaos/check-history.ts";
import type { HistoryEntry } from "../../src/chaos/history.ts";
import { newsOf } from "../../src/chaos/store-news.ts";

const second = 1_000;
const ip = "172.20.0.5";
const mac = "52:54:00:00:00:01";

const moved = (at: number, revision: number, node?: string, settled = true): HistoryEntry => {
  return { kind: "moved", at: at * second, revision, ip, served: node ? { node, mac, settled } : undefined };
};
const holder = (at: number, revision: number, node?: string): HistoryEntry => {
  return { kind: "holder", at: at * second, revision, ip, held: node ? { node, mac } : undefined };
};
const file = (at: number, node: string, isListed: boolean, cutOff = false): HistoryEntry => {
  const leases = isListed ? [{ mac, ip }] : [];
  return { kind: "leases-file", at: at * second, node, leases, cutOff };
};
const lease = (at: number, node: string): HistoryEntry => {
  const until = (at + 24) * second;
  return { kind: "lease", at: at * second, node, guest: "g1", mac, ip, until, renewal: at > 0 };
};
const placed = (at: number, node: string): HistoryEntry => {
  return { kind: "placed", at: at * second, guest: "g1", node };
};

/** Swapped from n1 to n2 at 50 s, served there at 52 s; the VM goes over at 51 s. */
const move: readonly HistoryEntry[] = [
  { kind: "owner", at: 0, revision: 1, node: "n1", subnet: "172.20.0.0/24" },
  { kind: "owner", at: 0, revision: 2, node: "n2", subnet: "172.20.1.0/24" },
  placed(0, "n1"),
  ...[0, 12, 24, 36, 48].map((at) => lease(at, "n1")),
  holder(0, 5, "n1"),
  moved(40, 10, "n1"),
  moved(50, 20, "n2", false),
  holder(50, 20, "n2"),
  placed(51, "n2"),
  moved(52, 21, "n2"),
  ...[60, 72, 84].map((at) => lease(at, "n2")),
];

function kinds(...more: HistoryEntry[]): string[] {
  return checkHistory([...move, ...more]).map(({ kind }) => kind);
}

it("a move that hands over what there was breaks nothing", () => {
  const files = [file(45, "n1", true), file(45, "n2", false), file(51, "n1", false), file(60, "n2", true)];
  expect(kinds(...files, file(80, "n1", false))).toEqual([]);
});

describe("two holders", () => {
  it("are there when the target lists the lease before the swap, for longer than news take", () => {
    expect(kinds(file(45, "n2", true))).toEqual(["two-holders"]);
  });

  it("are there when the source still lists it long after the swap, unless it cannot know", () => {
    expect(kinds(file(60, "n1", true))).toEqual([]);
    expect(kinds(file(75, "n1", true), file(76, "n1", true))).toEqual(["two-holders"]);
    expect(kinds(file(75, "n1", true, true))).toEqual([]);
  });

  it("are told by the moment at which the store was last seen not to have swapped", () => {
    const late = moved(50, 20, "n2", false);
    const known = move.map((entry) => (entry === move[9] ? { ...late, notBefore: 44 * second } : entry));
    expect(known[9]).toMatchObject({ kind: "moved", revision: 20 });
    expect(checkHistory([...known, file(45, "n2", true)])).toEqual([]);
    expect(checkHistory([...known, file(43, "n2", true)])).toHaveLength(1);
  });

  it("are there when one of the two records is swapped without the other, for one revision only", () => {
    expect(kinds(holder(90, 30, "n1"), holder(90, 31, "n2"))).toEqual(["two-holders"]);
    expect(kinds(moved(90, 30))).toEqual(["two-holders"]);
    expect(kinds(moved(90, 30), holder(90, 30, "n1"))).toEqual([]);
    expect(kinds(moved(90, 30), holder(90, 30))).toEqual([]);
  });

  it("are there when a block has a new owner, and a lease of the old one", () => {
    const next: HistoryEntry = { kind: "owner", at: 0, revision: 41, node: "n3", subnet: "172.20.0.0/24" };
    const gone: HistoryEntry = { kind: "owner", at: 0, revision: 40, node: "n1" };
    expect(kinds(moved(90, 30), holder(90, 30, "n1"), gone, next)).toEqual(["two-holders"]);
    expect(kinds(moved(90, 30), holder(90, 30), gone, next)).toEqual([]);
  });
});

describe("a lost grant", () => {
  it("is one that the source has dropped before the swap, or the target after it has said that it serves it", () => {
    expect(kinds(file(45, "n1", false))).toEqual(["lost-grant"]);
    expect(kinds(file(60, "n2", false))).toEqual(["lost-grant"]);
  });

  it("is none while the two change places", () => {
    expect(kinds(file(51, "n1", false), file(51, "n2", false))).toEqual([]);
  });

  it("is one that the old node is to deliver at rest", () => {
    const at = 90 * second;
    const rest: HistoryEntry[] = [
      { kind: "mirror", at, node: "n2", mac, ip },
      { kind: "rest", at },
    ];
    expect(kinds(...rest, { kind: "delivered", at, node: "n1", ip })).toEqual(["lost-grant"]);
    expect(kinds(...rest, { kind: "delivered", at, node: "n2", ip })).toEqual([]);
  });
});

it("a lease that its new node does not renew has not been renewed", () => {
  const files = [96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107].map((at) => file(at, "n2", true));
  expect(kinds(...files, placed(120, "n2"))).toEqual(["not-renewed"]);
});

it("what the store says of moves is read", () => {
  const news = { at: 1, notBefore: 0, revision: 7 };
  const value = JSON.stringify({
    ...{ home: "n1", subnet: "172.20.0.0/24", node: "n2", uid: "i-2", mac, seq: 1 },
    move: { intent: "move-1", from: "n1", to: "n2", toUID: "i-2", ready: [] },
  });
  const key = `moved/${ip}`;
  const served = { node: "n2", mac, settled: false };
  expect(newsOf(key, undefined, { key, value }, news)).toEqual({ kind: "moved", ...news, ip, served });
  expect(newsOf(key, { key, value }, undefined, news)).toEqual({ kind: "moved", ...news, ip });
});
