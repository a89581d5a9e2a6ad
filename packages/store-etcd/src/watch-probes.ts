import type { KeyRange } from "./keyspace.ts";

/** How often all streams are asked for a sign of life. One that gives none until the next time has failed. */
const everyMs = 10_000;
/** Of these rounds, one checks that the member is still part of a cluster with a leader. */
const roundsPerCheck = 6;

/** A watch stream that is looked after. */
export interface ProbedStream {
  readonly range: KeyRange;
  /** Whether anything has come since this was set to false. */
  heard: boolean;
  /** Asks for a sign of life. */
  ask(): void;
  fail(error: unknown): void;
}

/**
 * Finds watch streams that have fallen silent while their connection lives; a dead one is gRPC's keepalive's to find. All
 * streams of a store handle are asked together, so that an idle process wakes once for them.
 */
export class WatchProbes {
  readonly #check: (range: KeyRange) => Promise<unknown>;
  readonly #streams = new Set<ProbedStream>();
  #timer: NodeJS.Timeout | undefined;
  #rounds = 0;

  /** @param check a linearizable read: a member that is cut off from the others answers, but has no news */
  constructor(check: (range: KeyRange) => Promise<unknown>) {
    this.#check = check;
  }

  /** For a stream that works; disposed when it ends. */
  add(stream: ProbedStream): Disposable {
    this.#streams.add(stream);
    this.#timer ??= setInterval(() => this.#ask(), everyMs);
    return {
      [Symbol.dispose]: () => {
        this.#streams.delete(stream);
        if (this.#streams.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  #ask(): void {
    const streams = [...this.#streams];
    const [first] = streams;
    for (const stream of streams) {
      if (!stream.heard) stream.fail(new Error("no sign of life"));
      else {
        stream.heard = false;
        stream.ask();
      }
    }
    this.#rounds += 1;
    if (first === undefined || this.#rounds % roundsPerCheck !== 0) return;
    this.#check(first.range).catch((error: unknown) => {
      for (const stream of streams) stream.fail(error);
    });
  }
}
