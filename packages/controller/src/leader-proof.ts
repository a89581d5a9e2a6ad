import {
  describeError,
  encode,
  keys,
  NotFoundError,
  prefixes,
  type Recovery,
  UnavailableError,
} from "@cocoon-net/core";
import { type FencedWriter, LeadLostError } from "./fenced-writer.ts";
import type { ResolvedOptions } from "./options.ts";
import type { WatchLag } from "./watch-lag.ts";

/**
 * A leader whose session lives while its writes fail or its lists hang must not keep others from leading: proves
 * again and again that both work. What it writes tells people who leads, until when that was sure, and by `held` why
 * nothing is taken from silent nodes now. Each look at the
 * store's incarnation also ends a recovery window that is over. @throws {UnavailableError} when they have not worked for
 * `resignAfterMs`, or when the store may have lost writes since `incarnation`, so that everything has to be loaded anew;
 * {@link LeadLostError}.
 */
export async function proveLeadership(
  { store, id, clock, settings }: ResolvedOptions,
  writer: FencedWriter,
  recovery: Recovery,
  incarnation: string | undefined,
  lag: WatchLag,
  held: () => string | undefined,
  signal: AbortSignal,
): Promise<never> {
  let known = incarnation;
  let provenAt = clock.monotonic();
  for (;;) {
    let failure: unknown;
    let lost = false;
    try {
      const why = held();
      const about = why === undefined ? {} : { held: why };
      const value = encode({ id, time: clock.now().toISOString(), ...about });
      const written = await writer.once({ witness: { put: keys.controller, value } }, signal);
      if (written !== undefined) lag.written(written);
      await store.list(prefixes.nodes, { limit: 1, signal });
      const current = await incarnationOf(recovery, signal);
      known ??= current;
      lost = current !== known;
      provenAt = clock.monotonic();
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LeadLostError) throw error;
      failure = error;
    }
    if (lost) {
      throw new UnavailableError(`${store.label} may have lost writes; everything is loaded anew`, {
        outcome: "none",
      });
    }
    const silentMs = clock.monotonic() - provenAt;
    if (silentMs >= settings.resignAfterMs) {
      throw new UnavailableError(
        `the leader could not list and write for ${Math.round(silentMs)} ms: ${describeError(failure)}`,
        { outcome: "none", cause: failure },
      );
    }
    await clock.wait(settings.proveEveryMs, signal);
  }
}

/** Undefined where there is no cluster yet. */
export async function incarnationOf(recovery: Recovery, signal: AbortSignal): Promise<string | undefined> {
  try {
    return (await recovery.look([], { signal })).incarnation.id;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
