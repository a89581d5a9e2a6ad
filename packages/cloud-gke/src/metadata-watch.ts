import { Backoff, UnavailableError } from "@cocoon-net/core";
import type { Metadata } from "./metadata.ts";
import type { Timing } from "./timing.ts";

/**
 * What an item of the metadata server says now, then every change, until the signal ends it. An outage is waited out.
 *
 * @throws {NotFoundError} when there is no such item @throws the signal's reason
 */
export async function* watchItem(
  metadata: Metadata,
  path: string,
  timing: Timing,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, void> {
  const backoff = new Backoff({ firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs });
  let shown: string | undefined;
  let etag: string | undefined;
  for (;;) {
    let next: Awaited<ReturnType<Metadata["changed"]>>;
    try {
      next = await metadata.changed(path, etag, signal);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      // It is restarting, or moving with the instance to another host; it may have forgotten the tag.
      etag = undefined;
      await backoff.wait(signal);
      continue;
    }
    backoff.reset();
    etag = next.etag;
    if (next.text === shown) {
      // A server without tags would answer at once, for ever.
      if (etag === "") await backoff.wait(signal);
      continue;
    }
    shown = next.text;
    yield next.text;
  }
}
