import { Backoff, CocoonError, type WatchBatch, type WatchOptions } from "@cocoon-net/core";
import type { Call } from "./connection.ts";
import { type News, readChanges, readSnapshot } from "./history.ts";
import type { Pulse } from "./pulse.ts";

/**
 * `Store.watch`. It pulls: it reads on only when its consumer asks for the next batch, so a slow consumer costs
 * no memory here; if it falls behind the history that is kept, it gets a snapshot. Ends when `ended` aborts.
 */
export async function* watch(
  pulse: Pulse,
  prefix: string,
  fromRevision: WatchOptions["fromRevision"],
  ended: AbortSignal,
): AsyncGenerator<WatchBatch, void, undefined> {
  if (ended.aborted) return;
  const call: Call = { what: `watch ${prefix}`, writes: false, timeoutMs: 5_000, signal: ended };
  const backoff = new Backoff({ maxMs: 1_000 });
  using wake = pulse.subscribe(
    prefix,
    fromRevision === undefined ? undefined : { revision: fromRevision, stamp: "" },
  );
  for (;;) {
    const look = await wake.next(ended);
    if (look === undefined) return;
    const { connection } = look;
    try {
      let { range } = look;
      while (range !== undefined) {
        const news: News | undefined = await readChanges(connection, prefix, range, call);
        for (const batch of news?.batches ?? []) {
          if (ended.aborted) return;
          yield { type: "changes", ...batch };
        }
        wake.position = news?.position;
        range = news?.more ? { ...range, start: news.position, inclusive: false } : undefined;
      }
      if (wake.position === undefined) {
        const snapshot = await readSnapshot(connection, prefix, call);
        // Undefined again: history was cut while reading it. The growing pause lets a storm of writes pass.
        if (snapshot === undefined) {
          await backoff.wait(ended);
          continue;
        }
        wake.position = snapshot.position;
        yield { type: "snapshot", revision: snapshot.position.revision, entries: snapshot.entries };
      }
      backoff.reset();
    } catch (error) {
      if (ended.aborted) return;
      if (!(error instanceof CocoonError && error.retryable)) throw error;
      wake.doubt();
      await backoff.wait(ended).catch(() => {});
    }
  }
}
