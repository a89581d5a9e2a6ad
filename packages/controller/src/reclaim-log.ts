import { type Compare, encode, keys, type Operation, type Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import type { ControllerEvent, ControllerEventType } from "./controller-event.ts";
import { type About, durableEvent } from "./durable-event.ts";
import type { FencedWriter } from "./fenced-writer.ts";
import type { ReclaimIntent } from "./reclaim-intent.ts";

export interface ReclaimLogOptions {
  readonly writer: FencedWriter;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onEvent: (event: ControllerEvent) => void;
}

/** What one write does beside changing the intent. */
export interface Change {
  readonly if?: readonly Compare[];
  readonly then?: readonly Operation[];
  readonly event?: readonly [type: ControllerEventType, message: string];
}

/**
 * The durable note of one reclaim. Every write compares the intent's own revision beside the leadership, so that
 * what a former leader still has under way can change nothing any more; writes follow one another.
 */
export class ReclaimLog {
  readonly id: string;
  readonly #options: ReclaimLogOptions;
  #intent: ReclaimIntent;
  #revision: Revision;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(id: string, intent: ReclaimIntent, revision: Revision, options: ReclaimLogOptions) {
    this.id = id;
    this.#intent = intent;
    this.#revision = revision;
    this.#options = options;
  }

  get intent(): ReclaimIntent {
    return this.#intent;
  }

  /** Takes over what the store holds, which is ours unless an operator has changed it. */
  adopt(intent: ReclaimIntent, revision: Revision): void {
    this.#intent = intent;
    this.#revision = revision;
  }

  /** Rewrites the intent. False when a condition does not hold: nothing was written then. */
  save(change: (intent: ReclaimIntent) => ReclaimIntent, more: Change = {}): Promise<boolean> {
    return this.#inTurn(async () => {
      const updatedAt = this.#options.clock.now().toISOString();
      const intent = { ...change(this.#intent), updatedAt };
      const put = { put: keys.intent(this.id), value: encode(intent) };
      const event = this.#event(more);
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
  end(more: Change & { readonly event: NonNullable<Change["event"]> }): Promise<boolean> {
    return this.#inTurn(async () => {
      const event = this.#about(more.event);
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

  #event(more: Change) {
    return more.event && this.#about(more.event);
  }

  #about([type, message]: NonNullable<Change["event"]>) {
    const about: About = { node: this.#intent.node, subnet: this.#intent.subnet, message };
    return durableEvent(this.#options.clock, this.#revision, type, about);
  }

  async #inTurn<T>(write: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(write);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}
