import { encode, keys, prefixes, readAll, UnavailableError } from "@cocoon-net/core";
import type { FencedWriter } from "./fenced-writer.ts";
import type { ResolvedOptions, ResolvedSettings } from "./options.ts";

export interface TrimOptions extends Pick<ResolvedOptions, "store" | "clock" | "id"> {
  readonly writer: FencedWriter;
  /** The age of an event is by the wall clocks of its writer and the leader: the log is for people. */
  readonly settings: Pick<ResolvedSettings, "keepEvents" | "keepEventsMs">;
  readonly everyMs: number;
}

/** Keeps the event log bounded: the oldest go, by count and by age. Runs until the signal aborts. */
export async function trimEvents(options: TrimOptions, signal: AbortSignal): Promise<never> {
  for (;;) {
    try {
      await trimOnce(options, signal);
    } catch (error) {
      // Whether the store can be reached is for the leader's proof to say.
      if (!(error instanceof UnavailableError)) throw error;
    }
    await options.clock.wait(options.everyMs, signal);
  }
}

async function trimOnce(
  { store, writer, clock, id, settings }: TrimOptions,
  signal: AbortSignal,
): Promise<void> {
  const oldest = clock.now().getTime() - settings.keepEventsMs;
  const { items } = await readAll(
    store,
    prefixes.events,
    ({ key, value }) => ({ key, tooOld: isBefore(value, oldest) }),
    { signal },
  );
  const surplus = items.length - settings.keepEvents;
  const doomed = items.filter(({ tooOld }, index) => tooOld || index < surplus);
  // One for the leadership, one for the witness.
  const size = store.capabilities.maxOperations - 2;
  for (let start = 0; start < doomed.length; start += size) {
    const batch = doomed.slice(start, start + size);
    const value = encode({ id, time: clock.now().toISOString(), trimmed: batch.at(-1)?.key });
    await writer.write(
      {
        then: batch.map(({ key }) => ({ delete: key })),
        witness: { put: keys.controller, value },
      },
      signal,
    );
  }
}

/** An event without a time that can be read is no older than any. */
function isBefore(value: string, time: number): boolean {
  const found = /"time":"([^"]+)"/.exec(value)?.[1];
  return found !== undefined && Date.parse(found) < time;
}
