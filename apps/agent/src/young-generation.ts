import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** So many grants in less than this time are a load. */
const grants = 500;
const busyMs = 1_000;
/** Both halves, once they have grown. */
const grownBytes = 8 * 2 ** 20;

/**
 * Lets V8's young generation grow once, from two halves of 1 MiB to two of 4, when there is a load. The daemon is started
 * with one that does not grow (see bin/cocoon-net.js), for V8 would take it to 48 MiB. But a small one is full again
 * while grants wait for the disk, and all that belongs to them is copied instead of dropped: at 10,000 grants a second a
 * third of the processor time.
 */
export class YoungGeneration {
  #count = 0;
  #countedSince = Number.NEGATIVE_INFINITY;
  #mayGrow = false;

  /** To be called for each grant. */
  noteGrant(): void {
    if (++this.#count < grants) return;
    this.#count = 0;
    const now = performance.now();
    const isBusy = now - this.#countedSince < busyMs;
    this.#countedSince = now;
    const bytes = getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space")?.space_size;
    const mayGrow = isBusy && bytes !== undefined && bytes < grownBytes;
    if (mayGrow === this.#mayGrow) return;
    this.#mayGrow = mayGrow;
    setFlagsFromString(`--semi-space-growth-factor=${mayGrow ? 4 : 1}`);
  }
}
