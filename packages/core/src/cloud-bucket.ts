import type { CallPurpose } from "./cloud.ts";
import { InvalidError, ThrottledError } from "./errors.ts";

/** How often a cloud may be asked. */
export interface CallRate {
  readonly perSecond: number;
  /** How many may go out at once after a quiet time. At least 1. */
  readonly burst: number;
  /** At most so many in any 60 s, for clouds that count by the minute. Default: no such limit. */
  readonly perMinute?: number | undefined;
}

export interface BudgetClock {
  /** Milliseconds; never goes back. */
  now(): number;
  /** Calls `run` once, in `ms` milliseconds. Returns what cancels that. */
  after(ms: number, run: () => void): () => void;
}

export interface TakeOptions {
  readonly signal?: AbortSignal | undefined;
  /** Longest wait, in milliseconds. Default: no end but the signal's. */
  readonly withinMs?: number;
  /**
   * When that began which the request is a part of, by the bucket's clock: in each queue what began first goes first, so
   * that of many things some are done early, and not all of them late. Default: now.
   */
  readonly since?: number;
}

/**
 * Shares of the rate while all wait. One that nobody waits for leaves its part to the others. Of two purposes in one
 * share, the first goes first.
 */
const shares: readonly (readonly [weight: number, ...purposes: CallPurpose[]])[] = [
  [6, "allocate"],
  [3, "fence", "release"],
  [1, "clean-up"],
];

const minuteMs = 60_000;
/** Upper bounds of the pause after a refusal, and after the ones that follow. */
const firstPauseMs = 1_000;
const maxPauseMs = 60_000;
/** Refusals closer together than this are one sign: the requests were under way together. */
const oneSignMs = 1_000;
/** Never slower than this part of the rate, and what each success gives back of it. */
const leastFactor = 1 / 32;
const recovery = 1 / 20;
/** A token that is nearly there is there: sums of fractions do not hit 1. */
const wholeToken = 1 - 1e-6;

interface Waiter {
  readonly since: number;
  readonly grant: () => void;
}

interface Share {
  readonly weight: number;
  /** What it has had so far, in units of its weight: the share that has had least is next. */
  pass: number;
}

interface Queue {
  readonly share: Share;
  readonly waiters: Set<Waiter>;
}

/**
 * A token bucket with a queue for each purpose. A refusal for the rate halves the rate and holds everything back for
 * a while; each success gives a part of it back.
 */
export class CallBucket {
  readonly name: string;
  readonly #rate: CallRate;
  readonly #clock: BudgetClock;
  readonly #random: () => number;
  readonly #queues: ReadonlyMap<CallPurpose, Queue> = emptyQueues();
  /** When the latest requests went out, for the limit by the minute. */
  readonly #sent: number[] = [];
  #tokens: number;
  #countedAt: number;
  #factor = 1;
  #heldUntil = Number.NEGATIVE_INFINITY;
  #cutAt = Number.NEGATIVE_INFINITY;
  #pauseMs = firstPauseMs;
  #pass = 0;
  #wakeUp: (() => void) | undefined;

  constructor(name: string, rate: CallRate, clock: BudgetClock, random: () => number) {
    const { perSecond, burst, perMinute = 1 } = rate;
    if (!(perSecond > 0 && burst >= 1 && perMinute >= 1)) {
      throw new InvalidError(`the rate ${JSON.stringify(rate)} of ${name} is none`, {
        hint: "give perSecond above 0, burst and perMinute of at least 1",
      });
    }
    this.name = name;
    this.#rate = rate;
    this.#clock = clock;
    this.#random = random;
    this.#tokens = rate.burst;
    this.#countedAt = clock.now();
  }

  /** Requests per second at present, after refusals and successes. */
  get perSecond(): number {
    return this.#rate.perSecond * this.#factor;
  }

  /** How many wait. */
  get waiting(): number {
    let sum = 0;
    for (const { waiters } of this.#queues.values()) sum += waiters.size;
    return sum;
  }

  /**
   * Waits until one request may go out. Resolves with how long that took, in milliseconds.
   *
   * @throws the signal's reason
   * @throws {ThrottledError} when it takes longer than `withinMs`
   */
  async take(purpose: CallPurpose, options: TakeOptions = {}): Promise<number> {
    const { signal, withinMs } = options;
    signal?.throwIfAborted();
    const askedAt = this.#clock.now();
    const queue = this.#queues.get(purpose);
    if (queue === undefined) {
      const known = [...this.#queues.keys()].join(", ");
      throw new InvalidError(`no request has the purpose "${purpose}"`, { hint: `there are ${known}` });
    }
    const { share } = queue;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { since: options.since ?? askedAt, grant: resolve };
    const leave = (reason: unknown): void => {
      if (!queue.waiters.delete(waiter)) return;
      this.#serve();
      reject(reason);
    };
    const onAbort = (): void => leave(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    // A share that nobody waited for starts where the others are: it has not saved anything up.
    share.pass = Math.max(share.pass, this.#pass);
    queue.waiters.add(waiter);
    this.#serve();
    const late = (): void =>
      leave(
        new ThrottledError(`no ${this.name} request was allowed within ${withinMs} ms`, {
          hint: "ask for less at once, or raise the rates of the budget",
        }),
      );
    const timer =
      withinMs === undefined || !queue.waiters.has(waiter) ? undefined : this.#clock.after(withinMs, late);
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
      timer?.();
    }
    return this.#clock.now() - askedAt;
  }

  /** Call it when the cloud refuses a request for its rate; `retryAfterMs` as the cloud says, if it does. */
  throttled(retryAfterMs = 0): void {
    const now = this.#clock.now();
    this.#refill(now);
    let pauseMs = 0;
    if (now - this.#cutAt >= oneSignMs) {
      this.#cutAt = now;
      this.#factor = Math.max(this.#factor / 2, leastFactor);
      // Full jitter, so that the processes which share an account do not come back together.
      pauseMs = this.#random() * this.#pauseMs;
      this.#pauseMs = Math.min(this.#pauseMs * 2, maxPauseMs);
    }
    this.#tokens = 0;
    this.#heldUntil = Math.max(this.#heldUntil, now + Math.max(pauseMs, retryAfterMs));
    this.#serve();
  }

  /** Call it when the cloud has answered a request, whatever the answer was otherwise. */
  succeeded(): void {
    if (this.#factor === 1) return;
    this.#refill(this.#clock.now());
    this.#factor = Math.min(1, this.#factor + recovery);
    this.#pauseMs = firstPauseMs;
    this.#serve();
  }

  #refill(now: number): void {
    // Nothing accrues while requests are held back.
    const from = Math.max(this.#countedAt, Math.min(this.#heldUntil, now));
    const limit = Math.max(1, this.#rate.burst * this.#factor);
    this.#tokens = Math.min(limit, this.#tokens + ((now - from) / 1000) * this.perSecond);
    this.#countedAt = now;
  }

  /** Lets go what may go, and comes back when the next may. */
  #serve(): void {
    this.#wakeUp?.();
    this.#wakeUp = undefined;
    const now = this.#clock.now();
    this.#refill(now);
    for (;;) {
      const queue = this.#nextQueue();
      const waiter = queue && firstOf(queue.waiters);
      if (queue === undefined || waiter === undefined) return;
      const waitMs = this.#waitMs(now);
      if (waitMs > 0) {
        // A timer may be early by a fraction of a millisecond.
        this.#wakeUp = this.#clock.after(Math.ceil(waitMs), () => this.#serve());
        return;
      }
      this.#tokens = Math.max(0, this.#tokens - 1);
      if (this.#rate.perMinute !== undefined) this.#sent.push(now);
      this.#pass = queue.share.pass;
      queue.share.pass += 1 / queue.share.weight;
      queue.waiters.delete(waiter);
      waiter.grant();
    }
  }

  #nextQueue(): Queue | undefined {
    let next: Queue | undefined;
    for (const queue of this.#queues.values()) {
      if (queue.waiters.size === 0) continue;
      if (next === undefined || queue.share.pass < next.share.pass) next = queue;
    }
    return next;
  }

  /** How long until one may go; 0 when one may go now. */
  #waitMs(now: number): number {
    const held = this.#heldUntil - now;
    const missing = wholeToken - this.#tokens;
    const forToken = missing > 0 ? Math.max(0, held) + ((1 - this.#tokens) * 1000) / this.perSecond : held;
    return Math.max(0, forToken, this.#waitForMinute(now));
  }

  #waitForMinute(now: number): number {
    const { perMinute } = this.#rate;
    if (perMinute === undefined) return 0;
    const sent = this.#sent;
    while ((sent[0] ?? now) <= now - minuteMs) sent.shift();
    const limit = Math.max(1, Math.floor(perMinute * this.#factor));
    // The request that has to be a minute old before there is room for one more.
    const oldest = sent[sent.length - limit];
    return oldest === undefined ? 0 : oldest + minuteMs - now;
  }
}

/** Of those that began together, the one that has waited longest. */
function firstOf(waiters: Iterable<Waiter>): Waiter | undefined {
  let first: Waiter | undefined;
  for (const waiter of waiters) if (first === undefined || waiter.since < first.since) first = waiter;
  return first;
}

function emptyQueues(): ReadonlyMap<CallPurpose, Queue> {
  const queues = new Map<CallPurpose, Queue>();
  for (const [weight, ...purposes] of shares) {
    const share = { weight, pass: 0 };
    for (const purpose of purposes) queues.set(purpose, { share, waiters: new Set() });
  }
  return queues;
}
