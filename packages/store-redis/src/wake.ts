import type { Connection } from "./connection.ts";
import type { Position, Range } from "./history.ts";

/** What a watch does next: look at a range of history, or, when it has no place in it, take a snapshot. */
export interface Look {
  readonly connection: Connection;
  readonly range: Range | undefined;
}

/**
 * One watch's place in history, and what it has heard since. W1: its place moves only over what was looked at, or
 * over what the server says nothing was sent about, on the one connection that listened all the while. W2: after
 * any doubt about that it looks at all that came after its place.
 */
export class Wake implements Disposable {
  readonly prefix: string;
  /** Where the watch stands; undefined while it must start over with a snapshot. */
  position: Position | undefined;
  readonly #onDispose: (wake: Wake) => void;
  /** Listens to the channel of the prefix; undefined while nothing does. */
  #connection: Connection | undefined;
  #doubt = true;
  /** The first revision that was announced and not looked at, and the last. */
  #first: Position | undefined;
  #last = 0;
  /** Up to here everything has been announced. */
  #told: Position | undefined;
  #failure: unknown;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(prefix: string, position: Position | undefined, onDispose: (wake: Wake) => void) {
    this.prefix = prefix;
    this.position = position;
    this.#onDispose = onDispose;
  }

  get attached(): boolean {
    return this.#connection !== undefined;
  }

  /** From now on `connection` hears of all changes. */
  attach(connection: Connection): void {
    this.#connection = connection;
    this.doubt();
  }

  /** `connection` hears no more. */
  detach(connection: Connection): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#told = undefined;
  }

  /** A change under the prefix has been heard of. */
  announce(position: Position): void {
    if (!this.attached) return;
    this.#first ??= position;
    this.#last = position.revision;
    this.#ring();
  }

  /** The server has announced all that changed under the prefix up to `position`. */
  told(position: Position): void {
    if (!this.attached) return;
    this.#told = position;
    if (this.#waiting !== undefined) this.#settle();
  }

  /** Something may have been missed since `position`. */
  doubt(): void {
    this.#doubt = true;
    this.#told = undefined;
    this.#ring();
  }

  /** Ends the watch with an error. */
  fail(error: unknown): void {
    this.#failure = error;
    this.#ring();
  }

  /** What to do next, once there is something; undefined when `ended` has aborted. Asked when the last is done. */
  async next(ended: AbortSignal): Promise<Look | undefined> {
    for (;;) {
      if (ended.aborted) return undefined;
      if (this.#failure !== undefined) throw this.#failure;
      const look = this.#look();
      if (look !== undefined) return look;
      await this.#rung(ended);
    }
  }

  [Symbol.dispose](): void {
    this.#onDispose(this);
  }

  #look(): Look | undefined {
    const { position } = this;
    const [connection, first, last] = [this.#connection, this.#first, this.#last];
    if (connection === undefined) return undefined;
    this.#first = undefined;
    if (position === undefined || this.#doubt) {
      this.#doubt = false;
      const range = position && { start: position, inclusive: false, upTo: undefined };
      return { connection, range };
    }
    // What was looked at meanwhile may reach beyond what was announced.
    if (first !== undefined && last > position.revision) {
      const ahead = first.revision > position.revision;
      return { connection, range: { start: ahead ? first : position, inclusive: ahead, upTo: last } };
    }
    this.#settle();
    return undefined;
  }

  /** W1: nothing is left to look at, so that what was not announced did not happen. */
  #settle(): void {
    const told = this.#told;
    this.#told = undefined;
    if (this.#doubt || this.#first !== undefined || told === undefined || this.position === undefined) return;
    if (told.revision > this.position.revision) this.position = told;
  }

  #ring(): void {
    this.#waiting?.resolve();
  }

  async #rung(ended: AbortSignal): Promise<void> {
    this.#waiting = Promise.withResolvers<void>();
    const { promise, resolve } = this.#waiting;
    const onAbort = () => resolve();
    ended.addEventListener("abort", onAbort);
    await promise;
    ended.removeEventListener("abort", onAbort);
    this.#waiting = undefined;
  }
}
