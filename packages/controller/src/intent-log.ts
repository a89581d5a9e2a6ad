import { type Compare, encode, keys, type Operation, type Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent } from "./controller-event.ts";
import { type About, type DurableEvent, durableEvent, type Told } from "./durable-event.ts";
import type { FencedWriter } from "./fenced-writer.ts";
import type { IntentBase } from "./intent.ts";

export interface IntentLogOptions {
  readonly writer: FencedWriter;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onEvent: (event: ControllerEvent) => void;
}

/** What one write does beside changing the intent. */
export interface Change {
  readonly if?: readonly Compare[];
  readonly then?: readonly Operation[];
  readonly event?: Told;
}

/**
 * The durable note of one job. Every write compares the intent's own revision beside the leadership, so that what a
 * former leader still has under way can change nothing any more; writes follow one another.
 */
export class IntentLog<T extends IntentBase> {
  readonly id: string;
  readonly #options: IntentLogOptions;
  readonly #about: (intent: T) => About;
  #intent: T;
  #revision: Revision;
  #queue: Promise<unknown> = Promise.resolve();

  /** `about`: what its events are about. */
  constructor(
    id: string,
    intent: T,
    revision: Revision,
    about: (intent: T) => About,
    options: IntentLogOptions,
  ) {
    this.id = id;
    this.#intent = intent;
    this.#revision = revision;
    this.#about = about;
    this.#options = options;
  }

  get intent(): T {
    return this.#intent;
  }

  /** Takes over what the store holds, which is ours unless an operator has changed it. */
  adopt(intent: T, revision: Revision): void {
    this.#intent = intent;
    this.#revision = revision;
  }

  /** Rewrites the intent. False when a condition does not hold: nothing was written then. */
  save(change: (intent: T) => T, more: Change = {}): Promise<boolean> {
    return this.#inTurn(async () => {
      const updatedAt = this.#options.clock.now().toISOString();
      const intent = { ...change(this.#intent), updatedAt };
      const put = { put: keys.intent(this.id), value: encode(intent) };
      const event = more.event && this.#event(more.event);
      const revision = await this.#options.writer.write(
        {
          if: [this.#mine, ...(more.if ?? [])],
          then: [...(more.then ?? []), ...(event ? [put] : [])],
          witness: event ? event.put : put,
        },
        this.#options.signal,
      );
      if (revision === undefined) return false;
      this.#intent = intent;
      this.#revision = revision;
      if (event) this.#options.onEvent(event.event);
      return true;
    });
  }

  /** Deletes the intent, with what that means. False when a condition does not hold. */
  end(more: Change & { readonly event: Told }): Promise<boolean> {
    return this.#inTurn(async () => {
      const event = this.#event(more.event);
      const revision = await this.#options.writer.write(
        {
          if: [this.#mine, ...(more.if ?? [])],
          then: [...(more.then ?? []), { delete: keys.intent(this.id) }],
          witness: event.put,
        },
        this.#options.signal,
      );
      if (revision === undefined) return false;
      this.#options.onEvent(event.event);
      return true;
    });
  }

  get #mine(): Compare {
    return { key: keys.intent(this.id), modRevision: this.#revision };
  }

  #event(told: Told): DurableEvent {
    const about = { ...this.#about(this.#intent), intent: this.id };
    return durableEvent(this.#options.clock, this.#revision, told, about);
  }

  async #inTurn<R>(write: () => Promise<R>): Promise<R> {
    const turn = this.#queue.then(write);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}
