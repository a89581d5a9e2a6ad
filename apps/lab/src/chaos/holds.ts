import type { HistoryEntry } from "./history.ts";
import { slackMs } from "./violation.ts";

/** One guest's hold of one address, by its own word. */
export interface Hold {
  readonly guest: string;
  readonly mac: string;
  /** Where it was when it began. */
  readonly node: string;
  readonly ip: string;
  readonly from: number;
  /** The last moment until which it was told that it may use it, or when it gave it up. */
  until: number;
  /** It has lasted as long as it was told. */
  ranOut: boolean;
}

/** @param history in the order of its times */
export function holdsIn(history: readonly HistoryEntry[]): Hold[] {
  const holds: Hold[] = [];
  const open = new Map<string, Hold>();
  const end = (hold: Hold | undefined, at: number): void => {
    if (!hold || at >= hold.until) return;
    // The client's clock and the script's are some moments apart.
    hold.ranOut = at >= hold.until - 1_000;
    hold.until = at;
  };
  for (const entry of history) {
    if (entry.kind !== "lease" && entry.kind !== "lease-end") continue;
    const held = open.get(entry.guest);
    if (entry.kind === "lease-end") {
      end(held, entry.at);
      open.delete(entry.guest);
      continue;
    }
    const { guest, mac, node, ip, at, until } = entry;
    if (held?.ip === ip && held.mac === mac && held.until >= at - slackMs) {
      held.until = until;
      continue;
    }
    end(held, at);
    const hold = { guest, mac, node, ip, from: at, until, ranOut: true };
    holds.push(hold);
    open.set(guest, hold);
  }
  return holds;
}

/** Those that hold for longer than news take, before and after. */
export function heldAt(holds: readonly Hold[], at: number): Hold[] {
  return holds.filter(({ from, until }) => from <= at - slackMs && until >= at + slackMs);
}
