import { NotFoundError, type WatchDepartureOptions } from "@cocoon-net/core";
import { Metadata } from "./metadata.ts";
import { watchItem } from "./metadata-watch.ts";
import { metadataEndpoint } from "./settings.ts";
import { defaultTiming, type Timing } from "./timing.ts";

/**
 * What announces the end of an instance, with the words for it. An instance that migrates to another host keeps its
 * addresses, so its other maintenance events are none:
 * https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
 */
const notices = [
  {
    path: "instance/preempted",
    ends: "TRUE",
    why: "Compute Engine preempts this instance: it ends within 30 s",
  },
  {
    path: "instance/maintenance-event",
    ends: "TERMINATE_ON_HOST_MAINTENANCE",
    why: "Compute Engine is about to stop this instance for maintenance of its host",
  },
] as const;

/** See core's `CloudDriver.watchDeparture`. @throws the signal's reason */
export async function* watchDeparture(
  options: WatchDepartureOptions = {},
  timing: Timing = defaultTiming,
): AsyncGenerator<string | undefined, void, void> {
  const { env = process.env } = options;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const metadata = new Metadata(metadataEndpoint(env), timing);
  const watches = notices.map(({ path }) => watchItem(metadata, path, timing, signal));
  const values: (string | undefined)[] = notices.map(() => undefined);
  const next = async (index: number): Promise<{ index: number; result: IteratorResult<string, void> }> => ({
    index,
    result: (await watches[index]?.next().catch(endIfMissing)) ?? ended,
  });
  const waiting = new Map(notices.map((_, index) => [index, next(index)] as const));
  const silent = new Set(waiting.keys());
  let told: string | undefined | null = null;
  try {
    while (waiting.size > 0) {
      const { index, result } = await Promise.race(waiting.values());
      silent.delete(index);
      if (result.done) waiting.delete(index);
      else {
        values[index] = result.value;
        waiting.set(index, next(index));
      }
      const why = notices.find(({ ends }, place) => values[place] === ends)?.why;
      // That nothing ends it is known once everything has been asked.
      if (why === told || (why === undefined && silent.size > 0)) continue;
      told = why;
      yield why;
    }
  } finally {
    stop.abort();
    await Promise.allSettled(waiting.values());
  }
}

const ended = { done: true, value: undefined } as const;

/** An item that this metadata server does not have announces nothing. */
function endIfMissing(error: unknown): IteratorResult<string, void> {
  if (error instanceof NotFoundError) return ended;
  throw error;
}
