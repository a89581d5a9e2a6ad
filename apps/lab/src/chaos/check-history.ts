import { overlaps, parseCidr } from "@cocoon-net/core";
import { lostGrants, notRenewed, refusedGrants, strangersInFiles, twoHolders } from "./check-addresses.ts";
import { entriesOf, type HistoryEntry } from "./history.ts";
import { type Hold, heldAt, holdsIn } from "./holds.ts";
import { Serving } from "./serving.ts";
import { slackMs, type Violation } from "./violation.ts";

/** Everything in the history that a guarantee forbids. Order of the entries does not matter. */
export function checkHistory(history: readonly HistoryEntry[]): Violation[] {
  const sorted = history.toSorted((a, b) => a.at - b.at);
  const holds = holdsIn(sorted);
  const serving = new Serving(sorted);
  return [
    ...twoOwners(sorted),
    ...twoGrants(holds),
    ...twoHolders(sorted),
    ...strangersInFiles(sorted, serving),
    ...lostGrants(sorted, holds, serving),
    ...refusedGrants(sorted, holds),
    ...notRenewed(sorted, holds, serving),
    ...grantsWithoutSubnet(sorted),
    ...takenBlocks(sorted, holds, serving),
    ...freedWhilePaused(sorted),
  ].toSorted((a, b) => a.at - b.at);
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

function takenBlocks(
  history: readonly HistoryEntry[],
  holds: readonly Hold[],
  serving: Serving,
): Violation[] {
  const instances = entriesOf(history, "instance");
  const statuses = entriesOf(history, "status").toSorted((a, b) => a.revision - b.revision);
  return entriesOf(history, "taken").flatMap(({ at, revision, node, subnet }): Violation[] => {
    const own = instances.filter((entry) => entry.node === node && entry.at <= at + slackMs);
    // One that was stopped in time may have been started since.
    if (own.length === 0 || own.some((entry) => !entry.running)) return [];
    const before = statuses.filter((entry) => entry.node === node && entry.revision < revision);
    const wanted = before.findLast(({ status }) => status !== "fencing" && status !== "quarantined");
    if (wanted?.status !== "draining") {
      const message = `${subnet} was taken from ${node}, whose instance was running all the time`;
      return [{ kind: "taken-from-the-living", at, message }];
    }
    return heldAt(holds, at)
      .filter(({ guest }) => serving.placeOf(guest, at, at) === node)
      .map(({ guest, ip }) => {
        const message = `${subnet} was taken from ${node}, drained, where ${guest} still held ${ip}`;
        return { kind: "taken-from-guests", at, message };
      });
  });
}

/** Told by the store's order: what frees compares that nobody has paused it. */
function freedWhilePaused(history: readonly HistoryEntry[]): Violation[] {
  const news = [
    ...entriesOf(history, "pause"),
    ...entriesOf(history, "taken"),
    ...entriesOf(history, "freed"),
  ];
  let paused = false;
  return news
    .toSorted((a, b) => a.revision - b.revision)
    .flatMap((entry): Violation[] => {
      if (entry.kind === "pause") {
        paused = entry.paused;
        return [];
      }
      if (!paused) return [];
      const message = `${entry.subnet} was ${entry.kind} at revision ${entry.revision}, while that was paused`;
      return [{ kind: "freed-while-paused", at: entry.at, message }];
    });
}
