import {
  Backoff,
  type CallOptions,
  type Compare,
  ConflictError,
  type Operation,
  type Revision,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import { type About, durableEvent, type Told } from "./durable-event.ts";

export interface OperatorOptions extends CallOptions {
  readonly now?: (() => Date) | undefined;
}

export interface OperatorWrite {
  readonly if: readonly Compare[];
  readonly then: readonly Operation[];
  readonly event: Told;
  readonly about?: About;
  /** A revision that has been seen; the event sorts by it. */
  readonly after: Revision;
}

const tries = 5;

/**
 * What an operator changes, from any machine: one transaction, with its event. A lost answer is told from a refusal by
 * the event. False when a condition does not hold.
 */
export async function operatorWrite(
  store: Store,
  write: OperatorWrite,
  { now = () => new Date(), ...call }: OperatorOptions = {},
): Promise<boolean> {
  const { put } = durableEvent({ now }, write.after, write.event, write.about);
  const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
  for (let attempt = 1; ; attempt++) {
    try {
      const { succeeded, reads } = await store.txn(
        { if: write.if, then: [...write.then, put], else: [{ get: put.put }] },
        call,
      );
      return succeeded || reads[0]?.value === put.value;
    } catch (error) {
      if (!(error instanceof UnavailableError) || attempt === tries) throw error;
    }
    await backoff.wait(call.signal);
  }
}

/**
 * Reads, decides and writes until what was read has not changed in between.
 * @throws {ConflictError} when that does not happen; what `decide` throws
 */
export async function readAndWrite<T>(
  decide: () => Promise<{ readonly write: OperatorWrite | undefined; readonly result: T }>,
  store: Store,
  what: string,
  options: OperatorOptions = {},
): Promise<T> {
  for (let round = 1; round <= 8; round++) {
    const { write, result } = await decide();
    if (!write || (await operatorWrite(store, write, options))) return result;
  }
  throw new ConflictError(`${what}: the cluster kept changing`, { hint: "try again" });
}
