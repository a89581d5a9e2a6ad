import { type EventQuery, type LoggedEvent, readEvents } from "@cocoon-net/controller";
import { type EventRecord, prefixes, type Store } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import { requireNode, type View, within } from "./view.ts";

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
      const lies = (place: string | undefined): boolean => place !== undefined && inSubnet(place);
      const rows = (await eventsOf(store, { ...options, node: filter.node })).filter(
        ({ subnet, ip }) => filter.subnet === undefined || lies(subnet) || lies(ip),
      );
      if (rows.length === 0) await requireNode(filter.node, store, options);
      return { data: rows, text: () => eventTable(rows) };
    },
  };
}

/** What the log has of a node or an address, oldest first. */
export async function eventsOf(store: Store, query: EventQuery): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  for await (const event of readEvents(store, query)) events.push(event);
  return events.sort((a, b) => a.time.localeCompare(b.time));
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
