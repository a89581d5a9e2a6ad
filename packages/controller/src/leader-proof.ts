import { describeError, encode, prefixes, UnavailableError } from "@cocoon-net/core";
import { type FencedWriter, LeadLostError } from "./fenced-writer.ts";
import type { ResolvedOptions } from "./options.ts";

/** Rewritten by the leader for as long as it can; people read in it who leads, and until when that was sure. */
export const leaderProofKey = "controller";

/**
 * A leader whose session lives while its writes fail or its lists hang must not keep others from leading: proves
 * again and again that both work. @throws {UnavailableError} when they have not for `resignAfterMs`, or when the
 * store may have lost writes, so that everything has to be loaded anew; {@link LeadLostError}.
 */
export async function proveLeadership(
  { store, id, clock, settings }: ResolvedOptions,
  writer: FencedWriter,
  signal: AbortSignal,
): Promise<never> {
  const incarnation = await store.incarnation({ signal });
  let provenAt = clock.monotonic();
  for (;;) {
    let failure: unknown;
    let lost = false;
    try {
      const value = encode({ id, time: clock.now().toISOString() });
      await writer.once({ witness: { put: leaderProofKey, value } }, signal);
      await store.list(prefixes.nodes, { limit: 1, signal });
      lost = (await store.incarnation({ signal })) !== incarnation;
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
