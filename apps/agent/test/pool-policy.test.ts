import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLogger } from "../src/log.ts";
import { type FollowedPool, PoolKeeper, type PoolKeeperOptions } from "../src/pool-keeper.ts";
import { checkPolicy, firstSize, nextStep, type PoolPolicy, unmet, wantedSize } from "../src/pool-policy.ts";

const policy: PoolPolicy = { min: 4, target: 8, max: 100, releaseAfterMs: 0 };

describe("the policy of a pool", () => {
  it("keeps the target free, in batches", () => {
    expect(firstSize(policy)).toBe(8);
    expect(nextStep({ size: 8, free: 5, waiting: 0 }, policy)).toBeUndefined();
    expect(nextStep({ size: 8, free: 3, waiting: 0 }, policy)).toBe("grow");
    expect(wantedSize({ size: 8, free: 3, waiting: 0 }, policy)).toBe(13);
    expect(wantedSize({ size: 8, free: 0, waiting: 132 }, policy)).toBe(100);
    expect(unmet({ size: 8, free: 0, waiting: 132 }, policy)).toBe(40);
    expect(nextStep({ size: 40, free: 12, waiting: 0 }, policy)).toBeUndefined();
    expect(nextStep({ size: 40, free: 13, waiting: 0 }, policy)).toBe("shrink");
    expect(wantedSize({ size: 40, free: 40, waiting: 0 }, policy)).toBe(8);
    for (const wrong of [{ max: 0 }, { min: 101 }, { target: 101 }]) {
      expect(() => checkPolicy({ ...policy, ...wrong })).toThrow(/cannot be/);
    }
  });

  it("always comes to rest, with every guest served that may be, and never beyond its bounds", () => {
    const bounded = fc.record({
      min: fc.nat(50),
      target: fc.nat(50),
      more: fc.integer({ min: 1, max: 200 }),
    });
    fc.assert(
      fc.property(bounded, fc.nat(300), fc.nat(300), ({ min, target, more }, size, guests) => {
        const of: PoolPolicy = { min, target, max: Math.max(min, target) + more, releaseAfterMs: 0 };
        let now = Math.min(size, of.max);
        const state = () => ({
          size: now,
          free: Math.max(0, now - guests),
          waiting: Math.max(0, guests - now),
        });
        for (let steps = 0; nextStep(state(), of) !== undefined; steps++) {
          expect(steps).toBeLessThan(3);
          now = wantedSize(state(), of);
          expect(now).toBeLessThanOrEqual(of.max);
        }
        expect(now).toBeGreaterThanOrEqual(Math.min(guests, of.max, Math.max(now, of.min)));
        if (guests <= of.max) expect(state().waiting).toBeLessThanOrEqual(0);
      }),
    );
  });
});

describe("the keeper of a pool", () => {
  interface World {
    readonly options: PoolKeeperOptions;
    size: number;
    used: number;
    readonly grown: number[];
    readonly released: string[];
  }
  const world = (
    grow?: (size: number) => Promise<string | undefined>,
    changes: Partial<PoolPolicy> = {},
  ): World => {
    const pool: FollowedPool = {
      state: () => ({ size: it.size, free: it.size - it.used }),
      setAside: (count) => Array.from({ length: count }, (_, index) => `10.0.0.${index}`),
      reload: async () => {
        it.size = it.grown.at(-1) ?? it.size;
      },
    };
    const it: World = {
      size: 8,
      used: 0,
      grown: [],
      released: [],
      options: {
        policy: { ...policy, ...changes },
        pool,
        grow:
          grow ??
          (async (size) => {
            it.grown.push(size);
            return undefined;
          }),
        release: async (addresses) => {
          it.released.push(...addresses);
          it.grown.push(it.size - addresses.length);
        },
        log: createLogger({ COCOON_NET_LOG_LEVEL: "silent" }),
        everyMs: 20,
      },
    };
    return it;
  };

  it("grows at once for all who wait, and forgets them when they are served", async () => {
    const it = world();
    it.used = 8;
    await using keeper = new PoolKeeper(it.options);
    for (let guest = 0; guest < 50; guest++) keeper.refused(`mac-${guest}`);
    await expect.poll(() => it.size, { timeout: 60_000 }).toBeGreaterThanOrEqual(66);
    it.used = 58;
    for (let guest = 0; guest < 50; guest++) keeper.served(`mac-${guest}`);
    await expect.poll(() => keeper.waiting, { timeout: 60_000 }).toBe(0);
    expect(it.grown.length).toBeLessThanOrEqual(2);
    expect(keeper.short).toBeUndefined();
  });

  it("gives a surplus back only once it has lasted", async () => {
    const it = world(undefined, { releaseAfterMs: 400 });
    it.size = 40;
    const began = performance.now();
    await using keeper = new PoolKeeper(it.options);
    await expect.poll(() => it.released.length, { timeout: 60_000 }).toBe(32);
    expect(performance.now() - began).toBeGreaterThan(390);
    await expect.poll(() => it.size).toBe(8);
    expect(keeper.short).toBeUndefined();
  });

  // Catalogue 13. Guard: apps/agent/src/pool-keeper.ts, PoolKeeper.#run: a shortage makes the pauses longer.
  it("reports what cannot be met, and does not hammer the cloud for it", async () => {
    const askedAt: number[] = [];
    const it = world(async () => {
      askedAt.push(performance.now());
      return "the subnet is full";
    });
    it.used = 8;
    await using keeper = new PoolKeeper(it.options);
    keeper.refused("mac-1");
    await expect.poll(() => keeper.short, { timeout: 60_000 }).toBe("the subnet is full");
    // Guests go on asking: each of them wakes the keeper.
    for (let round = 0; round < 20; round++) {
      keeper.refused("mac-1");
      await sleep(25);
    }
    // A second at least lies between two tries, however long this took.
    for (const [index, at] of askedAt.slice(1).entries()) {
      expect(at - (askedAt[index] ?? 0)).toBeGreaterThan(900);
    }
  });

  it("says when the maximum is in the way, and still serves as many as it allows", async () => {
    const it = world(undefined, { max: 12 });
    it.used = 8;
    await using keeper = new PoolKeeper(it.options);
    for (let guest = 0; guest < 9; guest++) keeper.refused(`mac-${guest}`);
    await expect.poll(() => it.size, { timeout: 60_000 }).toBe(12);
    await expect.poll(() => keeper.short, { timeout: 60_000 }).toMatch(/^5 guests more than --pool-max 12/);
  });
});
