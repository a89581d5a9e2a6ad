import type { SimulatorClock } from "@cocoon-net/cloud-testkit";

/** Clock of a simulated cloud whose operations can be made slow. */
export class CloudPace implements SimulatorClock {
  /** Whatever begins from now on takes so many times as long as usual. */
  times = 1;

  now(): number {
    return Date.now();
  }

  after(ms: number, run: () => void): () => void {
    const timer = setTimeout(run, ms * this.times);
    timer.unref();
    return () => clearTimeout(timer);
  }
}
