import type { MonotonicClock } from "@cocoon-net/core";

interface Alarm {
  readonly at: number;
  readonly task: () => void;
}

/** A clock that stands still until it is told to move, so that a test can let hours pass at once. */
export class ManualClock implements MonotonicClock {
  #now = 0;
  readonly #alarms = new Set<Alarm>();

  now(): number {
    return this.#now;
  }

  after(ms: number, task: () => void): () => void {
    const alarm: Alarm = { at: this.#now + Math.max(ms, 0), task };
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  /**
   * Moves on by `ms` and runs, in order of their time, the tasks that fall due. Between two tasks the
   * promises that hang on the first get to run.
   */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      let next: Alarm | undefined;
      for (const alarm of this.#alarms) {
        if (alarm.at <= end && (next === undefined || alarm.at < next.at)) next = alarm;
      }
      if (next === undefined) break;
      this.#alarms.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.task();
    }
    this.#now = end;
  }
}

/** One turn of the event loop: every promise that can settle now has settled after it. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
