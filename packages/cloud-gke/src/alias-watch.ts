import { Backoff, UnavailableError } from "@cocoon-net/core";
import { Metadata } from "./metadata.ts";
import { type Environment, metadataEndpoint } from "./settings.ts";
import { defaultTiming, type Timing } from "./timing.ts";

export interface WatchAliasesOptions {
  /** For `COCOON_NET_METADATA_ENDPOINT`; default `process.env`. */
  readonly env?: Environment;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The aliases of this machine's first interface as the metadata server shows them: what there is, then every change,
 * until the signal ends it. Costs nothing of the API's quota and loads nothing of Google's. It tells when the guest
 * agent acts; it does not tell what the API has, which may be ahead by a minute.
 *
 * @throws {NotFoundError} when there is no such interface @throws the signal's reason
 */
export async function* watchAliases(
  options: WatchAliasesOptions = {},
  timing: Timing = defaultTiming,
): AsyncGenerator<readonly string[], void, void> {
  const { env = process.env, signal } = options;
  const metadata = new Metadata(metadataEndpoint(env), timing);
  let backoff = new Backoff({ firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs });
  let shown: string | undefined;
  let etag: string | undefined;
  for (;;) {
    let next: Awaited<ReturnType<Metadata["aliases"]>>;
    try {
      next = await metadata.aliases(etag, signal);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      // It is restarting, or moving with the instance to another host; it may have forgotten the tag.
      etag = undefined;
      await backoff.wait(signal);
      continue;
    }
    backoff = new Backoff({ firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs });
    etag = next.etag;
    const text = JSON.stringify(next.aliases);
    if (text === shown) {
      // A server without tags would answer at once, for ever.
      if (etag === "") await backoff.wait(signal);
      continue;
    }
    shown = text;
    yield next.aliases;
  }
}
