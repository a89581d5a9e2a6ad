import { repeatTogether } from "@cocoon-net/core";
import type { KeyRange } from "./keyspace.ts";

/** How often all streams are asked for a sign of life, */
const everyMs = 15_000;
/** or that much sooner, with other questions of the process. */
const earlyMs = 3_000;
/** Who has given none by now is looked at once more; calls that were made with the question end by now too. */
const soonMs = 2_000;
/** One that has given none by now has failed. */
const silenceMs = 5_000;
/** Of these rounds, one checks that the member is still part of a cluster with a leader. */
const roundsPerCheck = 4;

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
  #endAsking: (() => void) | undefined;
  #looking: NodeJS.Timeout | undefined;
  #rounds = 0;

  /** @param check a linearizable read: a member that is cut off from the others answers, but has no news */
  constructor(check: (range: KeyRange) => Promise<unknown>) {
    this.#check = check;
  }

  /** For a stream that works; disposed when it ends. */
  add(stream: ProbedStream): Disposable {
    this.#streams.add(stream);
    this.#endAsking ??= repeatTogether(everyMs, earlyMs, () => this.#ask());
    return {
      [Symbol.dispose]: () => {
        this.#streams.delete(stream);
        if (this.#streams.size > 0) return;
        this.#endAsking?.();
        this.#endAsking = undefined;
        clearTimeout(this.#looking);
      },
    };
  }

  #ask(): void {
    const streams = [...this.#streams];
    for (const stream of streams) {
      stream.heard = false;
      stream.ask();
    }
    this.#looking = setTimeout(() => this.#look(streams), soonMs);
    this.#rounds += 1;
    const [first] = streams;
    if (first === undefined || this.#rounds % roundsPerCheck !== 0) return;
    this.#check(first.range).catch((error: unknown) => {
      for (const stream of streams) stream.fail(error);
    });
  }

  /** Most often all have answered, and nothing more has to be waited for. */
  #look(asked: readonly ProbedStream[]): void {
    const silent = asked.filter((stream) => !stream.heard && this.#streams.has(stream));
    if (silent.length === 0) return;
    this.#looking = setTimeout(() => {
      for (const stream of silent) {
        if (!stream.heard && this.#streams.has(stream)) stream.fail(new Error("no sign of life"));
      }
    }, silenceMs - soonMs);
  }
}
