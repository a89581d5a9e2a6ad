import { Metadata } from "./metadata.ts";
import { watchItem } from "./metadata-watch.ts";
import { type Environment, metadataEndpoint } from "./settings.ts";
import { defaultTiming, type Timing } from "./timing.ts";
import { listOf, recordOf } from "./wire.ts";

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
  let shown: string | undefined;
  for await (const text of watchItem(
    metadata,
    "instance/network-interfaces/0/?recursive=true&alt=json",
    timing,
    signal,
  )) {
    const aliases = aliasesOf(text);
    // Other things of the interface change too.
    if (aliases === undefined || JSON.stringify(aliases) === shown) continue;
    shown = JSON.stringify(aliases);
    yield aliases;
  }
}

/** Undefined for what no metadata server says of an interface. */
function aliasesOf(text: string): readonly string[] | undefined {
  try {
    return listOf(recordOf(JSON.parse(text), "an interface"), "ipAliases").map(String);
  } catch {
    return undefined;
  }
}
