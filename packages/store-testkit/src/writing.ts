import type { CallOptions, Revision, Session, Store } from "@cocoon-net/core";

/** Calls that only prepare a check have longer than a backend gives them by itself. */
export const patient: CallOptions = { timeoutMs: 10_000 };

/** Puts one key and returns the revision of that. */
export async function put(
  store: Store,
  key: string,
  value: string,
  session?: Session,
  options: CallOptions = patient,
): Promise<Revision> {
  const operation = session === undefined ? { put: key, value } : { put: key, value, session };
  return (await store.txn({ then: [operation] }, options)).revision;
}

/** Puts many keys in as few transactions as the store allows. */
export async function putMany(store: Store, items: readonly (readonly [string, string])[]): Promise<void> {
  const size = store.capabilities.maxOperations;
  for (let at = 0; at < items.length; at += size) {
    const then = items.slice(at, at + size).map(([key, value]) => ({ put: key, value }));
    await store.txn({ then }, patient);
  }
}
