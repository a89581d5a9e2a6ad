import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CallPurpose } from "../src/cloud.ts";
import type { BudgetClock, CallBucket, CallRate } from "../src/cloud-bucket.ts";
import { CloudBudget } from "../src/cloud-budget.ts";
import { InvalidError, ThrottledError } from "../src/errors.ts";

/** Time that passes when it is told to. */
class StoppedClock implements BudgetClock {
  #now = 0;
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>();

  get timers(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = until;
    await settle();
  }
}

/** Lets what is ready run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

const name = { platform: "sim", account: "a", region: "r", class: "write" };
const purposes: readonly CallPurpose[] = ["allocate", "fence", "release", "clean-up"];

function bucketOf(
  rate: CallRate,
  random: () => number = () => 1,
): { bucket: CallBucket; clock: StoppedClock } {
  const clock = new StoppedClock();
  return { bucket: new CloudBudget({ clock, random }).bucket(name, rate), clock };
}

const rates = fc.record({
  perSecond: fc.double({ min: 0.1, max: 20, noNaN: true }),
  burst: fc.integer({ min: 1, max: 10 }),
  perMinute: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
});

type Event =
  | { readonly kind: "take"; readonly purpose: CallPurpose; readonly count: number }
  | { readonly kind: "pass" | "throttled"; readonly ms: number }
  | { readonly kind: "succeeded" | "cancel" };

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("take" as const),
      purpose: fc.constantFrom(...purposes),
      count: fc.integer({ min: 1, max: 12 }),
    }),
    fc.record({ kind: fc.constantFrom("pass" as const), ms: fc.integer({ min: 0, max: 30_000 }) }),
    fc.record({ kind: fc.constantFrom("throttled" as const), ms: fc.integer({ min: 0, max: 5_000 }) }),
    fc.record({ kind: fc.constantFrom("succeeded" as const, "cancel" as const) }),
  ),
  { maxLength: 40 },
);

describe("a bucket", () => {
  it("never lets more go than burst + rate × time, nor more per minute, whatever happens", async () => {
    await fc.assert(
      fc.asyncProperty(rates, events, async (rate, happenings) => {
        const { bucket, clock } = bucketOf(rate, () => 0.5);
        const sent: number[] = [];
        const waiting = new Set<AbortController>();
        const take = (purpose: CallPurpose): void => {
          const abort = new AbortController();
          waiting.add(abort);
          const gone = (): void => void waiting.delete(abort);
          bucket.take(purpose, { signal: abort.signal }).then(() => {
            sent.push(clock.now());
            gone();
          }, gone);
        };
        for (const event of happenings) {
          if (event.kind === "take") for (let n = 0; n < event.count; n++) take(event.purpose);
          else if (event.kind === "pass") await clock.pass(event.ms);
          else if (event.kind === "throttled") bucket.throttled(event.ms);
          else if (event.kind === "succeeded") bucket.succeeded();
          else [...waiting][0]?.abort();
          await settle();
        }
        // Whoever still waits gets its turn.
        for (let day = 0; day < 50 && waiting.size > 0; day++) await clock.pass(24 * 3_600_000);
        expect(waiting.size).toBe(0);
        expect([bucket.waiting, clock.timers]).toEqual([0, 0]);
        for (const [first, from] of sent.entries()) {
          for (const [ahead, at] of sent.slice(first).entries()) {
            expect(ahead + 1).toBeLessThanOrEqual(rate.burst + (rate.perSecond * (at - from)) / 1000 + 1e-3);
            if (at - from < 60_000) expect(ahead + 1).toBeLessThanOrEqual(rate.perMinute ?? ahead + 1);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  it("uses all of its rate", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 2, burst: 3 });
    let sent = 0;
    for (let n = 0; n < 100; n++) void bucket.take("allocate").then(() => sent++);
    await settle();
    expect(sent).toBe(3);
    await clock.pass(10_000);
    expect(sent).toBe(23);
    await clock.pass(38_500);
    expect(sent).toBe(100);
  });

  it("by the minute lets the next go when the first is a minute old", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 100, burst: 10, perMinute: 10 });
    let sent = 0;
    for (let n = 0; n < 25; n++) void bucket.take("allocate").then(() => sent++);
    await clock.pass(59_999);
    expect(sent).toBe(10);
    await clock.pass(1);
    expect(sent).toBe(20);
    await clock.pass(60_000);
    expect(sent).toBe(25);
  });

  it.each([
    { perSecond: 0, burst: 1 },
    { perSecond: 1, burst: 0 },
    { perSecond: Number.NaN, burst: 1 },
    { perSecond: 1, burst: 1, perMinute: 0 },
  ])("refuses %j", (rate) => {
    expect(() => bucketOf(rate)).toThrow(InvalidError);
  });
});

describe("the queues", () => {
  // Catalogue 14. Guard: packages/core/src/cloud-bucket.ts, CallBucket.#serve: each purpose has a queue and a share.
  it("starve nobody, and share by purpose", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 10, burst: 1 });
    const sent = { allocate: 0, release: 0, "clean-up": 0 };
    for (let n = 0; n < 1000; n++) {
      for (const purpose of ["allocate", "release", "clean-up"] as const) {
        void bucket.take(purpose).then(() => sent[purpose]++);
      }
    }
    await clock.pass(99_900);
    expect(sent).toEqual({ allocate: 600, release: 300, "clean-up": 100 });
  });

  it("let fences go before releases, in the share of both", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1, burst: 1 });
    const order: CallPurpose[] = [];
    for (const purpose of ["release", "allocate", "fence"] as const) {
      for (let n = 0; n < 6; n++) void bucket.take(purpose).then(() => order.push(purpose));
    }
    await clock.pass(9_000);
    const [first, ...others] = order;
    expect(first).toBe("release");
    expect(others.filter((purpose) => purpose === "allocate")).toHaveLength(6);
    expect(others.filter((purpose) => purpose === "fence")).toHaveLength(3);
    await clock.pass(8_000);
    expect(order.slice(10)).toEqual([...Array(3).fill("fence"), ...Array(5).fill("release")]);
  });

  it("let one that was quiet in at once, without a claim to the time it was quiet", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1, burst: 1 });
    const order: CallPurpose[] = [];
    const take = (purpose: CallPurpose): void => {
      void bucket.take(purpose).then(() => order.push(purpose));
    };
    for (let n = 0; n < 1000; n++) take("clean-up");
    await clock.pass(500_000);
    order.length = 0;
    for (let n = 0; n < 100; n++) take("allocate");
    await clock.pass(70_000);
    expect(order.slice(0, 2)).toContain("allocate");
    expect(order.filter((purpose) => purpose === "clean-up")).toHaveLength(10);
  });

  it("let what began first go first, whenever its requests come", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1, burst: 1 });
    await clock.pass(100);
    const order: string[] = [];
    const operation = async (name: string, since: number): Promise<void> => {
      for (let n = 0; n < 3; n++) {
        await bucket.take("fence", { since });
        order.push(name);
      }
    };
    void operation("c", 30);
    void operation("b", 20);
    void operation("a", 10);
    await clock.pass(20_000);
    // The first went before there was anybody else.
    expect(order).toEqual(["c", ...Array(3).fill("a"), ...Array(3).fill("b"), "c", "c"]);
  });

  it("keep the order of those who wait in one", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1, burst: 1 });
    const order: number[] = [];
    for (let n = 0; n < 5; n++) void bucket.take("release").then(() => order.push(n));
    await clock.pass(10_000);
    expect(order).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("a refusal for the rate", () => {
  // Catalogue 12. Guard: packages/core/src/cloud-bucket.ts, CallBucket.throttled: the rate is halved.
  it("halves the rate once for all requests that were under way, and successes bring it back", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 8, burst: 4 });
    for (let n = 0; n < 4; n++) bucket.throttled();
    expect(bucket.perSecond).toBe(4);
    await clock.pass(2_000);
    bucket.throttled();
    expect(bucket.perSecond).toBe(2);
    for (let n = 0; n < 5; n++) bucket.succeeded();
    expect(bucket.perSecond).toBeCloseTo(4);
    for (let n = 0; n < 50; n++) bucket.succeeded();
    expect(bucket.perSecond).toBe(8);
  });

  it("holds all back, up to a minute with full jitter", async () => {
    const pauseAfter = async (refusals: number, random: number): Promise<number> => {
      const { bucket, clock } = bucketOf({ perSecond: 1e6, burst: 1 }, () => random);
      for (let n = 0; n < refusals; n++) {
        await clock.pass(1_000_000);
        bucket.throttled();
      }
      const wait = bucket.take("allocate");
      await clock.pass(1_000_000);
      return Math.round((await wait) / 10) * 10;
    };
    expect(await pauseAfter(1, 1)).toBe(1_000);
    expect(await pauseAfter(2, 1)).toBe(2_000);
    expect(await pauseAfter(20, 1)).toBe(60_000);
    expect(await pauseAfter(20, 0.25)).toBe(15_000);
    expect(await pauseAfter(20, 0)).toBe(0);
  });

  it("is heeded for as long as the cloud says", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1_000, burst: 5 }, () => 0);
    bucket.throttled(7_000);
    let sent = false;
    void bucket.take("allocate").then(() => {
      sent = true;
    });
    await clock.pass(6_999);
    expect(sent).toBe(false);
    await clock.pass(10);
    expect(sent).toBe(true);
  });
});

describe("one who waits", () => {
  it("leaves no trace when it is cancelled, and delays nobody", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 1, burst: 1 });
    await bucket.take("allocate");
    const abort = new AbortController();
    const reason = new Error("enough");
    const waits = Array.from({ length: 50 }, () => bucket.take("allocate", { signal: abort.signal }));
    const all = Promise.allSettled(waits);
    const last = bucket.take("clean-up");
    abort.abort(reason);
    const reasons = (await all).map((wait) => (wait.status === "rejected" ? wait.reason : undefined));
    expect(new Set(reasons)).toEqual(new Set([reason]));
    expect(bucket.waiting).toBe(1);
    await clock.pass(1_000);
    expect(await last).toBe(1_000);
    expect([bucket.waiting, clock.timers]).toEqual([0, 0]);
    await expect(bucket.take("allocate", { signal: abort.signal })).rejects.toBe(reason);
  });

  it("is told when its time is up", async () => {
    const { bucket, clock } = bucketOf({ perSecond: 0.1, burst: 1 });
    await bucket.take("allocate", { withinMs: 10 });
    const failure = bucket.take("allocate", { withinMs: 9_000 });
    const told = expect(failure).rejects.toThrow(ThrottledError);
    await clock.pass(9_000);
    await told;
    expect([bucket.waiting, clock.timers]).toEqual([0, 0]);
  });
});

describe("a budget", () => {
  it("has one bucket for each account, region and class, with the rates that were asked for", () => {
    const budget = new CloudBudget({ rates: { sim: { write: { perSecond: 50 } } } });
    const rate = { perSecond: 2, burst: 3 };
    const bucket = budget.bucket(name, rate);
    expect(budget.bucket({ ...name }, { perSecond: 1, burst: 1 })).toBe(bucket);
    expect(bucket.perSecond).toBe(50);
    for (const other of [{ account: "b" }, { region: "q" }, { class: "read" }, { platform: "p" }]) {
      expect(budget.bucket({ ...name, ...other }, rate)).not.toBe(bucket);
    }
    expect(budget.bucket({ ...name, class: "read" }, rate).perSecond).toBe(2);
  });

  it("runs on the system's clock", async () => {
    const bucket = new CloudBudget().bucket(name, { perSecond: 5, burst: 1 });
    // Asked for at once: however busy the machine is, the second one has to wait.
    const [, waitedMs] = await Promise.all([bucket.take("allocate"), bucket.take("allocate")]);
    expect(waitedMs).toBeGreaterThan(5);
  });
});
