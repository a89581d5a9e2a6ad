import { contains, parseAddress, parseCidr } from "@cocoon-net/core";
import { type EntryOf, entriesOf, type HistoryEntry } from "./history.ts";
import { type Hold, heldAt } from "./holds.ts";
import type { Serving } from "./serving.ts";
import { slackMs, type Violation } from "./violation.ts";

/** Longer than a store is away, and an agent waits before it tries again. */
const newsMs = 20_000;
/** Of a lease of 24 s: a client asks at a half, at three quarters, and so on. */
const renewingMs = 12_000;

/**
 * At each revision: who has a guest's lease in `pool/` is who serves the address, by `moved/` or as the owner of its
 * block. So a move's swap hands over both at once, or neither.
 */
export function twoHolders(history: readonly HistoryEntry[]): Violation[] {
  const violations: Violation[] = [];
  const holders = new Map<string, EntryOf<"holder">["held"]>();
  const moved = new Map<string, EntryOf<"moved">["served"]>();
  const blocks = new Map<string, string>();
  const look = (ip: string, at: number, revision: number): void => {
    const held = holders.get(ip);
    if (!held) return;
    const served = moved.get(ip);
    const owner = [...blocks].find(([, block]) => contains(parseCidr(block), parseAddress(ip)))?.[0];
    const isRight = served
      ? held.node === served.node && held.mac === served.mac
      : owner === undefined || owner === held.node;
    if (isRight) return;
    const other = served ? `${served.node} serves it for ${served.mac}` : `${owner} owns its block`;
    const message = `at revision ${revision} ${ip} is ${held.node}'s, leased to ${held.mac}, and ${other}`;
    violations.push({ kind: "two-holders", at, message });
  };
  const news = [
    ...entriesOf(history, "owner"),
    ...entriesOf(history, "moved"),
    ...entriesOf(history, "holder"),
  ];
  const byRevision = Map.groupBy(news, ({ revision }) => revision);
  for (const [revision, changes] of [...byRevision].toSorted(([a], [b]) => a - b)) {
    const touched = new Set<string>();
    let at = 0;
    for (const change of changes) {
      at = change.at;
      if (change.kind === "owner") {
        if (change.subnet === undefined) blocks.delete(change.node);
        else blocks.set(change.node, change.subnet);
        const block = change.subnet;
        if (block === undefined) continue;
        for (const ip of holders.keys()) if (contains(parseCidr(block), parseAddress(ip))) touched.add(ip);
        continue;
      }
      if (change.kind === "holder") holders.set(change.ip, change.held);
      else moved.set(change.ip, change.served);
      touched.add(change.ip);
    }
    for (const ip of touched) look(ip, at, revision);
  }
  return violations;
}

/**
 * A node that hears the store lists no lease of a moved address that another one has served for longer than news take:
 * neither one that it is yet to get, nor one that it had.
 */
export function strangersInFiles(history: readonly HistoryEntry[], serving: Serving): Violation[] {
  const told = new Set<string>();
  return entriesOf(history, "leases-file").flatMap(({ at, node, leases, cutOff }) =>
    leases.flatMap(({ ip, mac }): Violation[] => {
      if (cutOff || !serving.hasMoved(ip) || serving.mayHave(node, ip, at - newsMs, at)) return [];
      if (told.has(`${node} ${ip}`)) return [];
      told.add(`${node} ${ip}`);
      const message = `leases.json of ${node} says ${ip} (${mac}), which another node serves`;
      return [{ kind: "two-holders", at, message }];
    }),
  );
}

export function lostGrants(
  history: readonly HistoryEntry[],
  holds: readonly Hold[],
  serving: Serving,
): Violation[] {
  const violations: Violation[] = [];
  const told = new Set<Hold>();
  const lose = (hold: Hold, at: number, where: string): void => {
    if (told.has(hold)) return;
    told.add(hold);
    const message = `${hold.guest} (${hold.mac}) holds ${hold.ip}, which ${where} does not say`;
    violations.push({ kind: "lost-grant", at, message });
  };
  for (const { at, node, leases } of entriesOf(history, "leases-file")) {
    const known = new Set(leases.map(({ mac, ip }) => `${mac} ${ip}`));
    for (const hold of heldAt(holds, at)) {
      if (known.has(`${hold.mac} ${hold.ip}`)) continue;
      if (serving.of(hold.ip, at - slackMs, at) === node) lose(hold, at, `leases.json of ${node}`);
    }
  }
  const mirrored = new Set(entriesOf(history, "mirror").map(({ node, mac, ip }) => `${node} ${mac} ${ip}`));
  const delivered = new Set(entriesOf(history, "delivered").map(({ node, ip }) => `${node} ${ip}`));
  for (const { at } of entriesOf(history, "rest")) {
    for (const hold of heldAt(holds, at)) {
      const node = serving.placeOf(hold.guest, at, at);
      if (!mirrored.has(`${node} ${hold.mac} ${hold.ip}`))
        lose(hold, at, `on ${node}, the store, all healed,`);
      else if (!delivered.has(`${node} ${hold.ip}`)) lose(hold, at, `on ${node}, the cloud, all healed,`);
    }
  }
  return violations;
}

/** A refusal ends a lease that the guest has; only a node that has lost its block may do that. */
export function refusedGrants(history: readonly HistoryEntry[], holds: readonly Hold[]): Violation[] {
  const taken = entriesOf(history, "taken");
  return entriesOf(history, "lease-end").flatMap(({ at, guest, reason }): Violation[] => {
    const hold = holds.find((each) => each.guest === guest && each.until === at && each.from < at);
    if (reason !== "refused" || hold === undefined) return [];
    if (taken.some((each) => each.node === hold.node && each.at <= at + slackMs)) return [];
    const message = `${guest} was refused ${hold.ip}, which it held, granted by ${hold.node}, which was never reclaimed`;
    return [{ kind: "lost-grant", at, message }];
  });
}

/** Guests ask in time, and whoever serves them answers, with or without the store. */
export function notRenewed(
  history: readonly HistoryEntry[],
  holds: readonly Hold[],
  serving: Serving,
): Violation[] {
  const files = entriesOf(history, "leases-file");
  const end = history.at(-1)?.at ?? 0;
  return holds.flatMap(({ guest, ip, until, ranOut }): Violation[] => {
    if (!ranOut || until >= end) return [];
    const from = until - renewingMs;
    const node = serving.of(ip, from, until);
    if (node === undefined || serving.placeOf(guest, from, until) !== node) return [];
    const calm = files.filter((file) => file.node === node && file.at >= from && file.at <= until);
    if (calm.length < (renewingMs / 1_000) * 0.75) return [];
    const message = `${node} ran undisturbed, and the lease of ${ip} of ${guest} ran out`;
    return [{ kind: "not-renewed", at: until, message }];
  });
}
