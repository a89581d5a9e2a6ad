import { InvalidError } from "./errors.ts";
import type { CallOptions, Entry, ListResult, Revision, Store } from "./store.ts";

export interface Listing {
  readonly entries: readonly Entry[];
  /** A watch from here misses nothing: what changed while the pages were read is seen again. */
  readonly revision: Revision;
}

/** Reads every page under a prefix, at one revision where the store can. */
export async function listAll(store: Store, prefix: string, options: CallOptions = {}): Promise<Listing> {
  const { items, revision } = await readAll(store, prefix, (entry) => entry, options);
  return { entries: items, revision };
}

/**
 * {@link listAll} for what is large: keeps what `read` makes of each entry, not the entries. `read` may be called for
 * all of them again, where the server has compacted away the history that the pages were pinned to.
 */
export async function readAll<T>(
  store: Store,
  prefix: string,
  read: (entry: Entry) => T,
  options: CallOptions = {},
): Promise<{ readonly items: readonly T[]; readonly revision: Revision }> {
  for (let attempt = 1; ; attempt++) {
    const items: T[] = [];
    let page: ListResult = await store.list(prefix, { ...options, limit: pageSize });
    const { revision } = page;
    for (;;) {
      for (const entry of page.entries) items.push(read(entry));
      if (page.next === undefined) return { items, revision };
      try {
        page = await store.list(prefix, { ...options, limit: pageSize, after: page.next, revision });
      } catch (error) {
        if (!(error instanceof InvalidError) || attempt === 3) throw error;
        break;
      }
    }
  }
}

/**
 * Entries of one page. etcd counts all keys behind a page each time: with twice as many in each, reading everything
 * costs it half as much.
 */
const pageSize = 10_000;
