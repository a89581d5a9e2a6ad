import { Backoff, counted, describeError, pause } from "@cocoon-net/core";
import type { Logger } from "./log.ts";
import { nextStep, type PoolPolicy, type PoolState, unmet, wantedSize } from "./pool-policy.ts";

/** The pool of a running server. */
export interface FollowedPool {
  state(): Omit<PoolState, "waiting">;
  /** Up to `count` addresses that nobody has are no longer granted from now on. */
  setAside(count: number): readonly string[];
  /** What the pool is now, by its file. */
  reload(): Promise<void>;
}

export interface PoolKeeperOptions {
  readonly policy: PoolPolicy;
  readonly pool: FollowedPool;
  /** Lets the cloud give the node so many addresses in all. Resolves with what is short, and why. */
  readonly grow: (size: number, signal: AbortSignal) => Promise<string | undefined>;
  /** Gives addresses back to the cloud. */
  readonly release: (addresses: readonly string[], signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
  /** How often it is looked at without an occasion. Default 5,000 ms. */
  readonly everyMs?: number;
}

/** A guest that has asked in vain asks again within a minute, or has gone. */
const waitingMs = 60_000;
/** Guests that boot together are counted together. */
const gatherMs = 200;

/**
 * Keeps the pool between what is needed and what is allowed. One change at a time; after a failure or a shortage the next
 * try is made later and later: demand that cannot be met is a state to report, not a loop.
 */
export class PoolKeeper implements AsyncDisposable {
  readonly #options: PoolKeeperOptions;
  readonly #waiting = new Map<string, number>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #wake: () => void = () => {};
  #surplusSince: number | undefined;
  #reported = "";
  #short: string | undefined;

  constructor(options: PoolKeeperOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** A guest got no address because none is free. */
  refused(mac: string): void {
    this.#waiting.set(mac, performance.now());
    this.#wake();
  }

  /** A guest has got its address. */
  served(mac: string): void {
    this.#waiting.delete(mac);
    this.#wake();
  }

  /** Guests that wait for an address now. */
  get waiting(): number {
    return this.#state().waiting;
  }

  /** Why the pool is smaller than it should be; undefined when it is not. */
  get short(): string | undefined {
    return this.#short;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff({ firstMs: 2_000, maxMs: 300_000 });
    while (!signal.aborted) {
      try {
        if (await this.#step(signal)) backoff.reset();
        else await backoff.wait(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#report(`the pool cannot follow demand: ${describeError(error)}`);
        await backoff.wait(signal).catch(() => undefined);
      }
      await this.#occasion(signal);
    }
  }

  /** False when the cloud gave less than was asked for. */
  async #step(signal: AbortSignal): Promise<boolean> {
    const { policy, pool, log, grow, release } = this.#options;
    const state = this.#state();
    const missing = unmet(state, policy);
    const limit =
      missing > 0 ? `${counted(missing, "guest")} more than --pool-max ${policy.max} allows` : undefined;
    const step = nextStep(state, policy);
    if (step !== "shrink") this.#surplusSince = undefined;
    if (step === "grow") {
      const size = wantedSize(state, policy);
      log.info({ ...state, wanted: size }, "the pool grows");
      const short = await grow(size, signal);
      await pool.reload();
      this.#report(short ?? limit);
      log.info({ ...this.#state() }, "the pool has grown");
      return short === undefined;
    }
    this.#report(limit ?? (state.waiting > 0 ? this.#short : undefined));
    if (step === "shrink") {
      this.#surplusSince ??= performance.now();
      if (performance.now() - this.#surplusSince < policy.releaseAfterMs) return true;
      this.#surplusSince = undefined;
      const addresses = pool.setAside(state.size - wantedSize(state, policy));
      if (addresses.length === 0) return true;
      log.info({ ...state, addresses: addresses.length }, "the pool shrinks");
      try {
        await release(addresses, signal);
      } finally {
        await pool.reload();
      }
    }
    return true;
  }

  #state(): PoolState {
    const now = performance.now();
    for (const [mac, at] of this.#waiting) if (now - at > waitingMs) this.#waiting.delete(mac);
    return { ...this.#options.pool.state(), waiting: this.#waiting.size };
  }

  /** Once per change. */
  #report(problem: string | undefined): void {
    this.#short = problem;
    if (problem === (this.#reported || undefined)) return;
    this.#reported = problem ?? "";
    if (problem === undefined) this.#options.log.info("the pool follows demand again");
    else this.#options.log.warn(problem);
  }

  async #occasion(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<"time" | "guest">();
    const timer = setTimeout(() => resolve("time"), this.#options.everyMs ?? 5_000);
    this.#wake = () => resolve("guest");
    const occasion = await promise;
    clearTimeout(timer);
    this.#wake = () => {};
    if (occasion === "guest") await pause(gatherMs, signal).catch(() => undefined);
  }
}
