import { entriesOf, type HistoryEntry } from "./history.ts";

/** What has happened, in a few lines. */
export function summary(history: readonly HistoryEntry[]): string {
  const count = (matches: (entry: HistoryEntry) => boolean): number => history.filter(matches).length;
  const faults = new Map<string, number>();
  for (const entry of history) {
    if (entry.kind !== "fault" || entry.over) continue;
    const what = `${entry.on.replace(/\d+/g, "")}: ${entry.what.replace(/[+-]\d+ s/, "steps")}`;
    faults.set(what, (faults.get(what) ?? 0) + 1);
  }
  return [
    ...[...faults].toSorted().map(([what, times]) => `${String(times).padStart(5)} × ${what}`),
    [
      `${count((entry) => entry.kind === "lease" && !entry.renewal)} grants`,
      `${count((entry) => entry.kind === "lease" && entry.renewal)} renewals`,
      `${count((entry) => entry.kind === "lease-end" && entry.reason === "refused")} refusals`,
      `${count((entry) => entry.kind === "taken")} blocks taken`,
      `${count((entry) => entry.kind === "owner" && entry.subnet !== undefined)} registrations`,
      `${count((entry) => entry.kind === "placed") - new Set(entriesOf(history, "placed").map(({ guest }) => guest)).size} VMs moved`,
      `${count((entry) => entry.kind === "leases-file")} looks at leases.json`,
    ].join(", "),
  ].join("\n");
}
