import { KeptSession } from "@cocoon-net/core";
import { ManualClock } from "@cocoon-net/store-memory";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

/** A session on a server that answers the renewals for which `answers` says so, each in `takesMs`. */
function keep(clock: ManualClock, ttlMs: number, answers: (renewal: number) => boolean, takesMs = 1) {
  const sent: number[] = [];
  const session = new KeptSession({
    ...{ id: "s", ttlMs, sentAt: clock.now(), where: "here", clock },
    end: async () => {},
    renew: (timeoutMs) => {
      const answered = answers(sent.push(clock.now()));
      return new Promise((resolve, reject) => {
        if (answered) clock.after(takesMs, () => resolve(true));
        else clock.after(timeoutMs, () => reject(new Error("not heard")));
      });
    },
  });
  return { session, sent };
}

describe("a kept session", () => {
  it("is renewed at half of its time, a short one at a third", async () => {
    for (const [ttlMs, periodMs] of [
      [60_000, 30_000],
      [30_000, 15_000],
      [10_000, 4_000],
      [3_000, 1_000],
    ] as const) {
      const clock = new ManualClock();
      const { session, sent } = keep(clock, ttlMs, () => true);
      await clock.advance(periodMs * 3.5);
      expect(sent.map((at, index) => Math.round(at - (index + 1) * periodMs))).toEqual([0, 1, 2]);
      await session[Symbol.asyncDispose]();
    }
  });

  it.each([
    [1, 1_000],
    [2, 12_000],
  ])("outlives %i renewals in turn that are not answered, from a TTL of %i ms on", async (lost, least) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: least, max: 120_000 }), fc.nat({ max: 5 }), async (ttlMs, from) => {
        const clock = new ManualClock();
        const { session, sent } = keep(clock, ttlMs, (renewal) => renewal <= from || renewal > from + lost);
        await clock.advance(ttlMs * 6);
        expect(sent.length).toBeGreaterThan(from + lost);
        expect(session.signal.aborted).toBe(false);
        await session[Symbol.asyncDispose]();
      }),
      { numRuns: 50 },
    );
  });

  it("is over once its time has passed since the last answered renewal was sent", async () => {
    const clock = new ManualClock();
    const { session, sent } = keep(clock, 30_000, (renewal) => renewal === 1, 1_900);
    await clock.advance(15_000 + 30_000 - 1);
    expect(sent[0]).toBe(15_000);
    expect(session.signal.aborted).toBe(false);
    await clock.advance(1);
    expect(session.signal.aborted).toBe(true);
  });
});
