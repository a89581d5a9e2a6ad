import {
  type Operation,
  type Session,
  type Store,
  type TxnRequest,
  UnavailableError,
} from "@cocoon-net/core";
import { coreTransactions, deadlines, lostAnswers, sessions } from "@cocoon-net/store-testkit";
import type { BrokenStores } from "./broken-store.ts";

export const brokenSessionsAndOutages: BrokenStores = {
  "a session that keeps its keys when it is disposed": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        const over = new AbortController();
        return {
          id: session.id,
          ttlMs: session.ttlMs,
          signal: AbortSignal.any([session.signal, over.signal]),
          [Symbol.asyncDispose]: async () => over.abort(),
        };
      },
    }),
  },
  "a session that tells of its end two seconds late": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        const late = new AbortController();
        session.signal.addEventListener("abort", () => setTimeout(() => late.abort(), 2_000));
        return {
          id: session.id,
          ttlMs: session.ttlMs,
          signal: late.signal,
          [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
        };
      },
    }),
  },
  "a session that ends while it is held": {
    group: sessions,
    breaks: (store) => ({
      session: async (ttlMs, options) => {
        const session = await store.session(ttlMs, options);
        setTimeout(() => void session[Symbol.asyncDispose](), 1.5 * ttlMs);
        return session;
      },
    }),
  },
  "a key that stays with the session that once held it": {
    group: sessions,
    breaks: (store) => {
      const holders = new Map<string, Session>();
      const tied = (operation: Operation): Operation => {
        if (!("put" in operation)) return operation;
        const session = holders.get(operation.put) ?? operation.session;
        if (session === undefined) return operation;
        holders.set(operation.put, session);
        return { ...operation, session };
      };
      return {
        txn: (request, options) => store.txn({ ...request, then: (request.then ?? []).map(tied) }, options),
      };
    },
  },
  "calls without a deadline": {
    group: deadlines,
    breaks: (store) => ({ get: (key, options) => store.get(key, { ...options, timeoutMs: 60_000 }) }),
  },
  "calls that do not look at their signal": {
    group: deadlines,
    breaks: (store) => ({ get: (key) => store.get(key) }),
  },
  "a store that goes on after it was closed": {
    group: deadlines,
    breaks: () => ({ [Symbol.asyncDispose]: async () => {} }),
  },
  "a closed store that says its calls may have been carried out": {
    group: deadlines,
    breaks: (store) => ({
      async get(key, options) {
        try {
          return await store.get(key, options);
        } catch (cause) {
          if (!(cause instanceof UnavailableError)) throw cause;
          throw new UnavailableError(cause.message, { outcome: "unknown", cause });
        }
      },
    }),
  },
  "a lost answer that is taken for a write that did not happen": {
    group: lostAnswers,
    breaks: (store) => ({
      async txn(request, options) {
        try {
          return await store.txn(request, options);
        } catch (cause) {
          if (!(cause instanceof UnavailableError)) throw cause;
          throw new UnavailableError(cause.message, { outcome: "none", cause });
        }
      },
    }),
  },
  "a lost answer after which the write is sent again, as if nothing had happened": {
    group: lostAnswers,
    breaks: sendsAgain,
  },
  "core's transactions sent again, as if nothing had happened": {
    group: coreTransactions,
    breaks: sendsAgain,
  },
};

/** Blind retries, as clients do by default. */
function sendsAgain(store: Store): Partial<Store> {
  return {
    async txn(request, options) {
      try {
        return await store.txn(request, options);
      } catch {
        return store.txn({ then: request.then ?? [] } satisfies TxnRequest, options);
      }
    },
  };
}
