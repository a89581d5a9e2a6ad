import { type Store, writesOf } from "@cocoon-net/core";

/** Requests that a client has made, each one round trip. */
export interface Calls {
  /** Gets, pages, transactions that write nothing, questions for the incarnation. */
  reads: number;
  /** Transactions that write. */
  writes: number;
}

/** Counts what goes through a store. The rest passes unchanged; disposing it disposes the store. */
export function countCalls(store: Store): { readonly store: Store; readonly calls: Calls } {
  const calls: Calls = { reads: 0, writes: 0 };
  const counting: Store = {
    label: store.label,
    capabilities: store.capabilities,
    get(key, options) {
      calls.reads += 1;
      return store.get(key, options);
    },
    list(prefix, options) {
      calls.reads += 1;
      return store.list(prefix, options);
    },
    txn(request, options) {
      if (writesOf(request)) calls.writes += 1;
      else calls.reads += 1;
      return store.txn(request, options);
    },
    watch: (prefix, options) => store.watch(prefix, options),
    session: (ttlMs, options) => store.session(ttlMs, options),
    incarnation(options) {
      const answer = store.incarnation(options);
      let known = false;
      answer.then(
        () => {
          known = true;
        },
        () => {},
      );
      // Nothing has come over the network before this: what is known by then took no request.
      setImmediate(() => {
        if (!known) calls.reads += 1;
      });
      return answer;
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
  return { store: counting, calls };
}
