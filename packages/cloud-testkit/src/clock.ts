/** Time as the simulator sees it; tests and benchmarks may pass their own. */
export interface SimulatorClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Runs `run` once after `ms`; the returned function cancels it. */
  after(ms: number, run: () => void): () => void;
}

export const systemClock: SimulatorClock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    // A simulator that is only waiting for a state change must not keep a finished program alive.
    timer.unref();
    return () => clearTimeout(timer);
  },
};
