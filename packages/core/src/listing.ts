import type { CallOptions, Entry, Revision, Store } from "./store.ts";

export interface Listing {
  readonly entries: readonly Entry[];
  /** A watch from here misses nothing: what changed while the pages were read is seen again. */
  readonly revision: Revision;
}

/** Reads every page under a prefix, at one revision where the store can. */
export async function listAll(store: Store, prefix: string, options: CallOptions = {}): Promise<Listing> {
  const entries: Entry[] = [];
  const first = await store.list(prefix, { ...options, limit: 5_000 });
  entries.push(...first.entries);
  for (let after = first.next; after !== undefined; ) {
    const page = await store.list(prefix, { ...options, limit: 5_000, after, revision: first.revision });
    entries.push(...page.entries);
    after = page.next;
  }
  return { entries, revision: first.revision };
}
