import { InvalidError } from "./errors.ts";
import type { CallOptions, Entry, Revision, Store } from "./store.ts";

export interface Listing {
  readonly entries: readonly Entry[];
  /** A watch from here misses nothing: what changed while the pages were read is seen again. */
  readonly revision: Revision;
}

/** Reads every page under a prefix, at one revision where the store can. */
export async function listAll(store: Store, prefix: string, options: CallOptions = {}): Promise<Listing> {
  for (let attempt = 1; ; attempt++) {
    const first = await store.list(prefix, { ...options, limit: pageSize });
    const entries = [...first.entries];
    try {
      for (let after = first.next; after !== undefined; ) {
        const page = await store.list(prefix, {
          ...options,
          limit: pageSize,
          after,
          revision: first.revision,
        });
        for (const entry of page.entries) entries.push(entry);
        after = page.next;
      }
      return { entries, revision: first.revision };
    } catch (error) {
      // The server has compacted the history away that the pages were pinned to.
      if (!(error instanceof InvalidError) || attempt === 3) throw error;
    }
  }
}

const pageSize = 5_000;
