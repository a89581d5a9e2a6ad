import type { SimulatorClock } from "./clock.ts";

export interface TimelineOptions {
  readonly clock: SimulatorClock;
  /** Each delay is lengthened or shortened by up to this part of it. */
  readonly jitter: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** A moment of the past: after a change, by its number, or at a time of the clock. */
export type Moment = { readonly change: number } | { readonly ms: number };

/** What happens in a simulated cloud: changes, who is told of them, and what is due later. */
export class Timeline<Change> {
  readonly clock: SimulatorClock;
  readonly #jitter: number;
  readonly #random: () => number;
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #pending = new Set<() => void>();
  #changes = 0;

  constructor(options: TimelineOptions) {
    this.clock = options.clock;
    this.#jitter = options.jitter;
    this.#random = options.random;
  }

  /** The present moment. */
  get moment(): Moment {
    return { change: this.#changes };
  }

  /** Number of a change that is being made. */
  next(): number {
    return ++this.#changes;
  }

  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  tell(change: Change): void {
    for (const listener of [...this.#listeners]) listener(change);
  }

  /** Does something later; dropped when the simulator is closed. */
  later(ms: number, run: () => void): void {
    const factor = 1 + this.#jitter * (2 * this.#random() - 1);
    const cancel = this.clock.after(ms * factor, () => {
      this.#pending.delete(cancel);
      run();
    });
    this.#pending.add(cancel);
  }

  close(): void {
    for (const cancel of this.#pending) cancel();
    this.#pending.clear();
    this.#listeners.clear();
  }
}

/** How long a table remembers what was, in milliseconds. */
const historyMs = 5 * 60_000;

interface Undo<T> {
  readonly change: number;
  readonly ms: number;
  readonly id: string;
  /** Undefined when the record was made then. */
  readonly before: T | undefined;
}

/** What numbers and dates the changes of a table. */
type Ticks = Pick<Timeline<unknown>, "clock" | "next">;

/** Records by id, with what they were in the last minutes: lists may lag behind. */
export class Table<T> {
  readonly #ticks: Ticks;
  readonly #records: Map<string, T>;
  #undo: Undo<T>[] = [];

  constructor(ticks: Ticks, records: ReadonlyMap<string, T> = new Map()) {
    this.#ticks = ticks;
    this.#records = new Map(records);
  }

  get all(): ReadonlyMap<string, T> {
    return this.#records;
  }

  /** Sets a record, or takes it out. Returns what it was. */
  put(id: string, after: T | undefined): T | undefined {
    const before = this.#records.get(id);
    if (after === undefined) this.#records.delete(id);
    else this.#records.set(id, after);
    const ms = this.#ticks.clock.now();
    this.#undo.push({ change: this.#ticks.next(), ms, id, before });
    const oldest = this.#undo[0];
    if (oldest !== undefined && oldest.ms < ms - 2 * historyMs) {
      this.#undo = this.#undo.filter((undo) => undo.ms >= ms - historyMs);
    }
    return before;
  }

  /** The records as they were then, or as far back as is remembered. */
  asOf(moment: Moment): Table<T> {
    const then = new Map(this.#records);
    for (const { change, ms, id, before } of this.#undo.toReversed()) {
      const isLater = "change" in moment ? change > moment.change : ms > moment.ms;
      if (!isLater) break;
      if (before === undefined) then.delete(id);
      else then.set(id, before);
    }
    return new Table(this.#ticks, then);
  }
}
