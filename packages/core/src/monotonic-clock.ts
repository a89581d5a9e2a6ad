/** Monotonic milliseconds, whose origin does not matter, and timers on them. */
export interface MonotonicClock {
  now(): number;
  /**
   * Runs `task` once after `ms`; the answer cancels it. With `earlyMs` it may run up to that much sooner: at once with
   * another such task, so that an idle process wakes for both together.
   */
  after(ms: number, task: () => void, earlyMs?: number): () => void;
}

export const monotonicClock: MonotonicClock = {
  now: () => performance.now(),
  after(ms, task, earlyMs = 0) {
    if (earlyMs > 0) return together.after(ms, task, earlyMs);
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

/** Runs `task` again and again after `ms`, or up to `earlyMs` sooner with another; the answer ends it. */
export function repeatTogether(ms: number, earlyMs: number, task: () => void): () => void {
  let cancel = (): void => {};
  const again = (): void => {
    cancel = monotonicClock.after(
      ms,
      () => {
        again();
        task();
      },
      earlyMs,
    );
  };
  again();
  return () => cancel();
}

interface Appointment {
  /** May run from here on, */
  readonly from: number;
  /** and must by then. */
  readonly until: number;
  readonly task: () => void;
}

/** Timers may be a millisecond early. */
const roundingMs = 1;

/** What may run early waits here for the first that must run. */
class TogetherTimer {
  readonly #appointments = new Set<Appointment>();
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;

  after(ms: number, task: () => void, earlyMs: number): () => void {
    const until = performance.now() + ms;
    const appointment: Appointment = { from: until - earlyMs, until, task };
    this.#appointments.add(appointment);
    this.#wakeAt(until);
    return () => {
      this.#appointments.delete(appointment);
      if (this.#appointments.size === 0) this.#stop();
    };
  }

  #wakeAt(time: number): void {
    if (time >= this.#wakesAt) return;
    this.#stop();
    this.#wakesAt = time;
    this.#timer = setTimeout(() => this.#run(), Math.max(time - performance.now(), 0));
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#wakesAt = Number.POSITIVE_INFINITY;
  }

  #run(): void {
    this.#wakesAt = Number.POSITIVE_INFINITY;
    const now = performance.now() + roundingMs;
    const due: Appointment[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const appointment of this.#appointments) {
      if (appointment.from <= now) due.push(appointment);
      else next = Math.min(next, appointment.until);
    }
    if (next < Number.POSITIVE_INFINITY) this.#wakeAt(next);
    try {
      for (const appointment of due) if (this.#appointments.delete(appointment)) appointment.task();
    } finally {
      // One that throws leaves the others to run.
      if (due.some((appointment) => this.#appointments.has(appointment))) this.#wakeAt(now);
    }
  }
}

const together = new TogetherTimer();
