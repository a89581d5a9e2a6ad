import {
  type CallOptions,
  InvalidError,
  type Store,
  type TxnRequest,
  type TxnResult,
  UnavailableError,
} from "@cocoon-net/core";
import { patienceMs } from "./rule.ts";

/** Stands between a caller and `pass`, which carries the transaction out. */
export type TxnHook = (request: TxnRequest, pass: () => Promise<TxnResult>) => Promise<TxnResult>;

/** The same store, except that each transaction goes through `hook`. */
export function interceptTxn(store: Store, hook: TxnHook): Store {
  return { ...passing(store), txn: (request, options) => hook(request, () => store.txn(request, options)) };
}

/** The same store, with time for a machine that is busy or stands still: a call ends after two seconds by default. */
export function patient(store: Store): Store {
  const within = <O extends CallOptions>(options: O | undefined): O | CallOptions => ({
    ...options,
    timeoutMs: options?.timeoutMs ?? patienceMs,
  });
  return {
    ...passing(store),
    get: (key, options) => store.get(key, within(options)),
    list: (prefix, options) => store.list(prefix, within(options)),
    txn: (request, options) => store.txn(request, within(options)),
    session: (ttlMs, options) => store.session(ttlMs, within(options)),
    incarnation: (options) => store.incarnation(within(options)),
  };
}

/** What handles take for the server behind them; another `name` means that it may have lost writes. */
export interface ServerName {
  name: string;
}

/** The same store, on a server that calls itself something more. */
export function onServer(store: Store, server: ServerName): Store {
  return {
    ...passing(store),
    incarnation: async (options) => (await store.incarnation(options)) + server.name,
  };
}

/** Fails the first read of a page beyond the first, as a server that has compacted its revision away. */
export function compactWhileListing(store: Store): Store {
  let done = false;
  return {
    ...passing(store),
    async list(prefix, options) {
      if (!done && options?.after !== undefined) {
        done = true;
        throw new InvalidError("the revision has been compacted");
      }
      return store.list(prefix, options);
    },
  };
}

function passing(store: Store): Store {
  return {
    label: store.label,
    capabilities: store.capabilities,
    get: (key, options) => store.get(key, options),
    list: (prefix, options) => store.list(prefix, options),
    txn: (request, options) => store.txn(request, options),
    watch: (prefix, options) => store.watch(prefix, options),
    session: (ttlMs, options) => store.session(ttlMs, options),
    incarnation: (options) => store.incarnation(options),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/**
 * Fails the first `count` transactions that write `key`: with the outcome `unknown` after it was applied, with
 * `none` instead of applying it.
 */
export function loseAnswers(store: Store, key: string, outcome: "none" | "unknown", count = 1): Store {
  let left = count;
  return interceptTxn(store, async (request, pass) => {
    if (left === 0 || !writes(request, key)) return pass();
    left -= 1;
    if (outcome === "unknown") await pass();
    throw new UnavailableError(`the answer about ${key} was lost`, { outcome });
  });
}

/** Runs `meanwhile` once, just before the first transaction that writes `key`. */
export function beforeWriting(store: Store, key: string, meanwhile: () => Promise<void>): Store {
  let done = false;
  return interceptTxn(store, async (request, pass) => {
    if (!done && writes(request, key)) {
      done = true;
      await meanwhile();
    }
    return pass();
  });
}

/** Counts the transactions that go through. */
export function countTxns(store: Store, count: { transactions: number }): Store {
  return interceptTxn(store, (_, pass) => {
    count.transactions += 1;
    return pass();
  });
}

function writes({ then = [] }: TxnRequest, key: string): boolean {
  return then.some(
    (operation) =>
      ("put" in operation && operation.put === key) || ("delete" in operation && operation.delete === key),
  );
}
