import {
  Backoff,
  type Compare,
  FencedError,
  keys,
  type Operation,
  type Revision,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import type { Clock } from "./clock.ts";

/** Somebody else leads, or nobody does: everything this leader was about to write has not been written. */
export class LeadLostError extends FencedError {}

export type Put = Extract<Operation, { readonly put: string }>;

export interface FencedWrite {
  readonly if?: readonly Compare[];
  readonly then?: readonly Operation[];
  /**
   * One more put, whose value nobody else writes: finding it in the store tells that the write happened
   * although its answer was lost.
   */
  readonly witness: Put;
}

/** Every write of a leader: each compares the leadership, and none is lost or doubled by a lost answer. */
export class FencedWriter {
  readonly #store: Store;
  readonly #fence: Compare & { readonly createRevision: Revision };
  readonly #clock: Clock;

  constructor(store: Store, fence: Compare, clock: Clock) {
    if (!("createRevision" in fence)) throw new TypeError("the leadership fence compares a create revision");
    this.#store = store;
    this.#fence = fence;
    this.#clock = clock;
  }

  /**
   * The revision of the write, or undefined when a condition does not hold. Tries again for as long as the store
   * does not answer. @throws {LeadLostError}; the signal's reason.
   */
  async write(request: FencedWrite, signal: AbortSignal): Promise<Revision | undefined> {
    const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
    for (;;) {
      try {
        return await this.once(request, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof UnavailableError)) throw error;
      }
      await this.#clock.wait(backoff.next(), signal);
    }
  }

  /** {@link write} without the tries. @throws {UnavailableError} when the answer is not known. */
  async once(request: FencedWrite, signal: AbortSignal): Promise<Revision | undefined> {
    const { if: conditions = [], then = [], witness } = request;
    const result = await this.#store.txn(
      {
        if: [this.#fence, ...conditions],
        then: [...then, witness],
        else: [{ get: this.#fence.key }, { get: witness.put }],
      },
      { signal },
    );
    if (result.succeeded) return result.revision;
    const [leader, found] = result.reads;
    if (leader?.createRevision !== this.#fence.createRevision) {
      throw new LeadLostError(`the write of ${witness.put} was refused: ${keys.leader} has changed hands`);
    }
    return found?.value === witness.value ? found.modRevision : undefined;
  }
}
