import {
  type CallOptions,
  contains,
  decode,
  type Entry,
  type EventRecord,
  eventSchema,
  InvalidError,
  parseAddress,
  parseCidr,
  prefixes,
  readAll,
  type Store,
} from "@cocoon-net/core";

export interface EventQuery extends CallOptions {
  /** Only what is about this node. */
  readonly node?: string | undefined;
  /** Only what is about this address, or the subnet that it lies in. */
  readonly ip?: string | undefined;
  /** Only what is about this subnet. */
  readonly subnet?: string | undefined;
  /** Goes on with what happens from now on, until the signal aborts. */
  readonly follow?: boolean | undefined;
}

/** One entry of the audit log. */
export interface LoggedEvent extends EventRecord {
  /** What follows `events/`; sorts by the order of events as their writers saw it. */
  readonly id: string;
}

/**
 * The events in the store's log, oldest first. What cannot be read is left out.
 * @throws {InvalidError} for an address that is none
 */
export async function* readEvents(
  store: Store,
  query: EventQuery = {},
): AsyncGenerator<LoggedEvent, void, void> {
  const { signal, timeoutMs, follow = false } = query;
  const matches = matcherOf(query);
  const wanted = (entry: Entry): LoggedEvent | undefined => {
    const event = read(entry);
    return event && matches(event) ? event : undefined;
  };
  const { items, revision } = await readAll(store, prefixes.events, wanted, { signal, timeoutMs });
  for (const event of items) if (event) yield event;
  if (!follow) return;
  let last = items.findLast((event) => event !== undefined)?.id ?? "";
  for await (const batch of store.watch(prefixes.events, { fromRevision: revision, signal })) {
    const entries =
      batch.type === "snapshot"
        ? // History is gone: what is newer than the last one that was seen was missed.
          batch.entries.filter(({ key }) => key > prefixes.events + last)
        : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
    for (const entry of entries) {
      const event = wanted(entry);
      if (!event) continue;
      if (event.id > last) last = event.id;
      yield event;
    }
  }
}

function matcherOf({ node, ip, subnet }: EventQuery): (event: EventRecord) => boolean {
  const address = ip === undefined ? undefined : parseAddress(ip);
  return (event) => {
    if (node !== undefined && event.node !== node) return false;
    if (subnet !== undefined && event.subnet !== subnet) return false;
    if (address === undefined || event.ip === ip) return true;
    return event.ip === undefined && event.subnet !== undefined && covers(event.subnet, address);
  };
}

function covers(subnet: string, address: number): boolean {
  try {
    return contains(parseCidr(subnet), address);
  } catch (error) {
    if (error instanceof InvalidError) return false;
    throw error;
  }
}

function read(entry: Entry): LoggedEvent | undefined {
  try {
    return { ...decode(eventSchema, entry), id: entry.key.slice(prefixes.events.length) };
  } catch {
    return undefined;
  }
}
