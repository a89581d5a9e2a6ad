import { decode, type EventRecord, eventSchema, prefixes } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import { readPrefix, type View, within } from "./view.ts";

export interface EventsFilter {
  readonly node?: string | undefined;
  readonly subnet?: string | undefined;
}

/** Who owned what, when, why; oldest first. */
export function eventsView(filter: EventsFilter): View {
  const inSubnet = within(filter.subnet, "--subnet");
  return {
    prefixes: [prefixes.events],
    async read(store, options) {
      const all = await readPrefix(store, prefixes.events, (_, entry) => decode(eventSchema, entry), options);
      const rows = all
        .filter(({ node }) => filter.node === undefined || node === filter.node)
        .filter(({ subnet }) => filter.subnet === undefined || (subnet !== undefined && inSubnet(subnet)))
        .sort((a, b) => a.time.localeCompare(b.time));
      return { data: rows, text: () => eventTable(rows) };
    },
  };
}

export function eventTable(rows: readonly EventRecord[]): string {
  return renderTable(rows, [
    { title: "TIME", value: (row) => row.time },
    { title: "EVENT", value: (row) => row.type },
    { title: "NODE", value: (row) => row.node ?? "-" },
    { title: "SUBNET", value: (row) => row.subnet ?? "-" },
    { title: "WHAT", value: (row) => row.message },
  ]);
}
