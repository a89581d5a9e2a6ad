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
  const { into, revision } = await readInto(
    store,
    prefix,
    (): T[] => [],
    (items, entry) => items.push(read(entry)),
    options,
  );
  return { items: into, revision };
}

/** {@link readAll} into what `begin` makes: one when all is read again. */
export async function readInto<C>(
  store: Store,
  prefix: string,
  begin: () => C,
  take: (into: C, entry: Entry) => void,
  options: CallOptions = {},
): Promise<{ readonly into: C; readonly revision: Revision }> {
  for (let attempt = 1; ; attempt++) {
    const into = begin();
    let page: ListResult = await store.list(prefix, { ...options, limit: pageSize });
    const { revision } = page;
    for (;;) {
      const { entries, next: after } = page;
      // The server looks for the next one while this one is read.
      const following =
        after === undefined
          ? undefined
          : store.list(prefix, { ...options, limit: pageSize, after, revision });
      following?.catch(() => {});
      for (const entry of entries) take(into, entry);
      if (following === undefined) return { into, revision };
      try {
        page = await following;
      } catch (error) {
        if (!(error instanceof InvalidError) || attempt === 3) throw error;
        break;
      }
    }
  }
}

/** Entries of one page: a page is held in several forms at once while it is read. */
const pageSize = 5_000;
