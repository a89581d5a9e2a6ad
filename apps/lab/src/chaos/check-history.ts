import { overlaps, parseCidr } from "@cocoon-net/core";
import type { HistoryEntry } from "./history.ts";

export interface Violation {
  /**
   * `two-owners`: blocks of two nodes overlap (G1). `two-grants`: two guests hold an address (G2). `lost-grant`: a guest
   * holds an address that its node, or at rest the store, knows nothing of, or that its node refuses although it owns it
   * (G2, G9). `grant-without-subnet`: an address was given to a guest by a node that no longer owns it (G3).
   * `taken-from-the-living`: the block of a node was taken whose instance the cloud said was running (G5).
   */
  readonly kind:
    | "two-owners"
    | "two-grants"
    | "lost-grant"
    | "grant-without-subnet"
    | "taken-from-the-living";
  readonly at: number;
  readonly message: string;
}

/** How late, on a busy machine, may be written down what has happened: shorter than any lease. In milliseconds. */
const slackMs = 3_000;

/** One guest's hold of one address, by its own word. */
interface Hold {
  readonly guest: string;
  readonly mac: string;
  readonly node: string;
  readonly ip: string;
  readonly from: number;
  /** The last moment until which it was told that it may use it, or when it gave it up. */
  until: number;
}

/** Everything in the history that a guarantee forbids. Order of the entries does not matter. */
export function checkHistory(history: readonly HistoryEntry[]): Violation[] {
  const sorted = history.toSorted((a, b) => a.at - b.at);
  const holds = holdsIn(sorted);
  return [
    ...twoOwners(sorted),
    ...twoGrants(holds),
    ...lostGrants(sorted, holds),
    ...refusedGrants(sorted, holds),
    ...grantsWithoutSubnet(sorted),
    ...takenFromTheLiving(sorted),
  ].toSorted((a, b) => a.at - b.at);
}

type Of<K extends HistoryEntry["kind"]> = Extract<HistoryEntry, { kind: K }>;

function entriesOf<K extends HistoryEntry["kind"]>(history: readonly HistoryEntry[], kind: K): Of<K>[] {
  return history.filter((entry): entry is Of<K> => entry.kind === kind);
}

function holdsIn(history: readonly HistoryEntry[]): Hold[] {
  const holds: Hold[] = [];
  const open = new Map<string, Hold>();
  for (const entry of history) {
    if (entry.kind !== "lease" && entry.kind !== "lease-end") continue;
    const held = open.get(entry.guest);
    if (entry.kind === "lease-end") {
      if (held) held.until = Math.min(held.until, entry.at);
      open.delete(entry.guest);
      continue;
    }
    const { guest, mac, node, ip, at, until } = entry;
    if (held?.ip === ip && held.mac === mac && held.until >= at - slackMs) {
      held.until = until;
      continue;
    }
    if (held) held.until = Math.min(held.until, at);
    const hold = { guest, mac, node, ip, from: at, until };
    holds.push(hold);
    open.set(guest, hold);
  }
  return holds;
}

function twoOwners(history: readonly HistoryEntry[]): Violation[] {
  const violations: Violation[] = [];
  const blocks = new Map<string, string>();
  // The store's order, not the one in which its news came; what one transaction takes goes before what it gives.
  const owners = entriesOf(history, "owner").toSorted(
    (a, b) => a.revision - b.revision || Number(a.subnet !== undefined) - Number(b.subnet !== undefined),
  );
  for (const { at, revision, node, subnet } of owners) {
    blocks.delete(node);
    if (subnet === undefined) continue;
    for (const [other, block] of blocks) {
      if (!overlaps(parseCidr(block), parseCidr(subnet))) continue;
      const message = `at revision ${revision} ${node} owns ${subnet} and ${other} owns ${block}`;
      violations.push({ kind: "two-owners", at, message });
    }
    blocks.set(node, subnet);
  }
  return violations;
}

function twoGrants(holds: readonly Hold[]): Violation[] {
  const violations: Violation[] = [];
  for (const ofAddress of Map.groupBy(holds, ({ ip }) => ip).values()) {
    for (const [index, one] of ofAddress.entries()) {
      for (const other of ofAddress.slice(index + 1)) {
        const [from, until] = [Math.max(one.from, other.from), Math.min(one.until, other.until)];
        if (one.guest === other.guest || until - from <= slackMs) continue;
        const message =
          `${one.ip} is held for ${until - from} ms by ${one.guest} on ${one.node} (${one.mac}) ` +
          `and ${other.guest} on ${other.node} (${other.mac})`;
        violations.push({ kind: "two-grants", at: from, message });
      }
    }
  }
  return violations;
}

function lostGrants(history: readonly HistoryEntry[], holds: readonly Hold[]): Violation[] {
  const violations: Violation[] = [];
  const told = new Set<Hold>();
  const lose = (hold: Hold, at: number, where: string): void => {
    if (told.has(hold)) return;
    told.add(hold);
    const message = `${hold.guest} on ${hold.node} (${hold.mac}) holds ${hold.ip}, which ${where} does not say`;
    violations.push({ kind: "lost-grant", at, message });
  };
  const heldAt = (at: number): Hold[] =>
    holds.filter(({ from, until }) => from <= at - slackMs && until >= at + slackMs);
  for (const { at, node, leases } of entriesOf(history, "leases-file")) {
    const known = new Set(leases.map(({ mac, ip }) => `${mac} ${ip}`));
    for (const hold of heldAt(at)) {
      if (hold.node === node && !known.has(`${hold.mac} ${hold.ip}`))
        lose(hold, at, `leases.json of ${node}`);
    }
  }
  const mirrored = new Set(entriesOf(history, "mirror").map(({ node, mac, ip }) => `${node} ${mac} ${ip}`));
  for (const { at } of entriesOf(history, "rest")) {
    for (const hold of heldAt(at)) {
      if (!mirrored.has(`${hold.node} ${hold.mac} ${hold.ip}`)) lose(hold, at, "the store, all healed,");
    }
  }
  return violations;
}

/** A refusal ends a lease that the guest has; only a node that has lost its block may do that. */
function refusedGrants(history: readonly HistoryEntry[], holds: readonly Hold[]): Violation[] {
  const taken = entriesOf(history, "taken");
  return entriesOf(history, "lease-end").flatMap(({ at, guest, reason }): Violation[] => {
    const hold = holds.find((each) => each.guest === guest && each.until === at && each.from < at);
    if (reason !== "refused" || hold === undefined) return [];
    if (taken.some((each) => each.node === hold.node && each.at <= at + slackMs)) return [];
    const message = `${guest} on ${hold.node} was refused ${hold.ip}, which it held, by a node that was never reclaimed`;
    return [{ kind: "lost-grant", at, message }];
  });
}

function grantsWithoutSubnet(history: readonly HistoryEntry[]): Violation[] {
  const lostAt = new Map<string, number>();
  const violations: Violation[] = [];
  for (const entry of history) {
    if (entry.kind === "owner") {
      if (entry.subnet === undefined) lostAt.set(entry.node, entry.at);
      else lostAt.delete(entry.node);
    }
    // What the node had granted before it may renew until it knows; a new guest it may not have.
    if (entry.kind !== "lease" || entry.renewal) continue;
    const since = lostAt.get(entry.node);
    if (since === undefined || entry.at - since <= slackMs) continue;
    const message = `${entry.node} gave ${entry.ip} to ${entry.guest} ${entry.at - since} ms after its block was gone`;
    violations.push({ kind: "grant-without-subnet", at: entry.at, message });
  }
  return violations;
}

function takenFromTheLiving(history: readonly HistoryEntry[]): Violation[] {
  const instances = entriesOf(history, "instance");
  return entriesOf(history, "taken").flatMap(({ at, node, subnet }): Violation[] => {
    const own = instances.filter((entry) => entry.node === node && entry.at <= at + slackMs);
    // One that was stopped in time may have been started since.
    const excused = own.length === 0 || own.some((entry) => !entry.running);
    if (excused) return [];
    const message = `${subnet} was taken from ${node}, whose instance was running all the time`;
    return [{ kind: "taken-from-the-living", at, message }];
  });
}
