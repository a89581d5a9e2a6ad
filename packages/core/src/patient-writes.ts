import { Backoff } from "./backoff.ts";
import { UnavailableError } from "./errors.ts";
import { keys } from "./keys.ts";
import type { Compare, Operation, Revision, Store } from "./store.ts";

/** How long a store may be away before a copy gives up; run again, it goes on from there. */
const patienceMs = 60_000;
/** Transactions under way at once. */
const width = 8;

/**
 * Writes `config` if `condition` still holds, with `then` in the same transaction. `value` must be this writer's own:
 * finding it tells that an earlier try, whose answer was lost, did it. @returns its revision, undefined when refused
 */
export async function putConfig(
  store: Store,
  condition: Compare,
  value: string,
  options: { readonly signal?: AbortSignal | undefined; readonly then?: readonly Operation[] } = {},
): Promise<Revision | undefined> {
  const { signal, then = [] } = options;
  const { succeeded, revision, reads } = await patiently(signal, () =>
    store.txn(
      { if: [condition], then: [{ put: keys.config, value }, ...then], else: [{ get: keys.config }] },
      { signal },
    ),
  );
  if (succeeded) return revision;
  return reads[0]?.value === value ? reads[0].modRevision : undefined;
}

/** Runs what is safe to run twice again, for as long as the store is away. */
export async function patiently<T>(signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
  const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
  const end = performance.now() + patienceMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof UnavailableError) || performance.now() > end) throw error;
    }
    await backoff.wait(signal);
  }
}

export function* batches<T>(items: readonly T[], size: number): Generator<readonly T[], void, void> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}

/** `work` for each item, a few at once. Rejects with the first failure, when nothing is under way any more. */
export async function inParallel<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed = false;
  const lane = async (): Promise<void> => {
    for (let next = iterator.next(); !next.done && !failed; next = iterator.next()) {
      await work(next.value).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: width }, lane));
  const failure = lanes.find((result) => result.status === "rejected");
  if (failure) throw failure.reason;
}
