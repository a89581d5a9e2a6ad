import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

const [major = 0] = process.versions.node.split(".").map(Number);
/** What makes code fast that runs often. Before Node 24 maglev is off as it is. */
const compilers: readonly string[] = major < 24 ? ["opt"] : ["opt", "maglev"];

/** So many grants in less than … */
const grants = 500;
/** … this time are worth compilers, */
const compilingMs = 10_000;
/** and in this one a larger young generation. */
const growingMs = 1_000;
/** Both halves of it, once it has grown. */
const grownBytes = 16 * 2 ** 20;

/**
 * To be called before anything else is loaded, for a daemon runs for months beside the guests. Left alone, V8 lets hundreds
 * of megabytes of garbage pile up on a host that has memory; the collections that prevent it cost a few microseconds a
 * lease. Its compilers take 10 MB, at first for Node's module loader, which never runs again.
 */
export function startSmall(): void {
  const flags = ["semi-space-growth-factor=1", "heap-growing-percent=50", "no-parallel-scavenge"];
  // V8 tidies up 100 s after all has become still, and until then looked every 8 s whether it is time.
  flags.push("gc-memory-reducer-start-delay-ms=100000");
  // An idle daemon makes little garbage and now and then a function runs often enough for baseline code: not worth waking
  // V8's threads.
  flags.push("no-concurrent-sparkplug", "no-concurrent-array-buffer-sweeping");
  set(...flags, ...compilers.map((name) => `no-${name}`));
}

/** For what computes much. */
export function allowCompilers(): void {
  set(...compilers);
}

/**
 * Gives V8 what a load needs. The young generation grows once, from two halves of 1 MiB to two of 8; V8 would take it to
 * 48 MiB. But a small one is full again while grants wait for the disk, and all that belongs to them is copied instead of
 * dropped: at 10,000 grants a second a third of the processor time.
 */
export class GrantLoad {
  #count = 0;
  #countedSince = Number.NEGATIVE_INFINITY;
  #compiles = false;
  #mayGrow = false;

  /** To be called for each grant. */
  noteGrant(): void {
    if (++this.#count < grants) return;
    this.#count = 0;
    const now = performance.now();
    const took = now - this.#countedSince;
    this.#countedSince = now;
    if (took < compilingMs && !this.#compiles) {
      this.#compiles = true;
      allowCompilers();
    }
    const bytes = getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space")?.space_size;
    const mayGrow = took < growingMs && bytes !== undefined && bytes < grownBytes;
    if (mayGrow === this.#mayGrow) return;
    this.#mayGrow = mayGrow;
    set(`semi-space-growth-factor=${mayGrow ? 8 : 1}`);
  }
}

function set(...flags: readonly string[]): void {
  for (const flag of flags) setFlagsFromString(`--${flag}`);
}
