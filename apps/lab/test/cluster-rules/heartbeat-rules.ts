import {
  AuthError,
  FencedError,
  heartbeat,
  keys,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { type Bench, until, within } from "@cocoon-net/store-testkit";
import { expect } from "vitest";
import { openCluster, requestOf, takeAway } from "./cluster-fixture.ts";
import { interceptTxn } from "./intercepted-store.ts";
import { lastingTtlMs, momentAfter, patienceMs, type Rule } from "./rule.ts";

/** For what only shows when a session ends. etcd grants no less with its default election timeout. */
const shortTtlMs = 2_000;

/** A heartbeat that runs, and what it has said. */
interface Beat extends AsyncDisposable {
  readonly said: readonly string[];
  /** When it last said it was unsure. */
  readonly unsureAt: number;
  readonly problems: readonly unknown[];
  /** Settles as the heartbeat does. */
  readonly end: Promise<void>;
  /** Waits until it has said this, and nothing else. Only where its session lasts. */
  heard(...said: string[]): Promise<void>;
  /**
   * Waits until this is what it has said last. Where its session is short it may have said both more than once, if this
   * process stood still, but neither twice in a row.
   */
  becomes(said: "owned" | "unsure"): Promise<void>;
}

interface BeatOptions {
  readonly ttlMs?: number;
  readonly onOwned?: () => Promise<void>;
}

function beat(store: Store, registration: Registration, options: BeatOptions = {}): Beat {
  const { ttlMs = lastingTtlMs, onOwned = async () => {} } = options;
  const stop = new AbortController();
  const said: string[] = [];
  const problems: unknown[] = [];
  let unsureAt = 0;
  const end = heartbeat(store, registration, {
    ttlMs,
    signal: stop.signal,
    onOwned: () => {
      said.push("owned");
      return onOwned();
    },
    onUnsure: () => {
      said.push("unsure");
      unsureAt = performance.now();
    },
    onProblem: (error) => void problems.push(error),
  });
  end.catch(() => {});
  return {
    said,
    problems,
    get unsureAt() {
      return unsureAt;
    },
    end,
    async heard(...expected) {
      const what = `the heartbeat to say ${expected.join(", ")}`;
      await until(what, patienceMs, () => said.length >= expected.length).catch((error: unknown) => {
        throw new Error(`${String(error)}; it said ${said.join(", ")}`);
      });
      expect(said).toEqual(expected);
    },
    async becomes(last) {
      await until(`the heartbeat to say ${last}`, patienceMs, () => said.at(-1) === last);
      expect(said).toEqual(said.map((_, index) => (index % 2 === 0 ? "owned" : "unsure")));
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await end.catch(() => {});
    },
  };
}

const isAlive = async (store: Store): Promise<boolean> =>
  (await store.get(keys.alive("a"))).entry !== undefined;

/** A cluster where node `a` is registered, and a second handle on it. */
async function registered(bench: Bench): Promise<{ store: Store; other: Store; registration: Registration }> {
  const store = await openCluster(bench);
  const registration = await new Registry(store).register(requestOf("a"));
  return { store, other: await bench.open(), registration };
}

/** The same, over a path that can fail. */
async function faulty(bench: Bench) {
  const other = await openCluster(bench);
  const { store, faults } = await bench.openFaulty();
  return { store, other, faults, registration: await new Registry(store).register(requestOf("a")) };
}

export function heartbeatRules(rule: Rule): void {
  rule("a node is alive while its heart beats, and not after", async (bench, expect) => {
    const { store, other, registration } = await registered(bench);
    const beating = bench.use(beat(store, registration));
    await beating.heard("owned");
    expect(await isAlive(other)).toBe(true);
    await beating[Symbol.asyncDispose]();
    expect(await isAlive(other)).toBe(false);
    expect(beating.said).toEqual(["owned"]);
    expect(beating.problems).toEqual([]);
    await beating.end;
    await registration.verify();
  });

  // Catalogue 27. Guard: packages/core/src/heartbeat.ts, heartbeat: the end of the session is told at that moment.
  rule(
    "the store out of reach makes it unsure, once, and the store's return sure again (G7)",
    async (bench, expect) => {
      const { store, other, faults, registration } = await faulty(bench);
      const beating = bench.use(beat(store, registration, { ttlMs: shortTtlMs }));
      await beating.becomes("owned");
      await faults.blackhole();
      const forgotten = until("the store to forget it", patienceMs, async () => !(await isAlive(other))).then(
        momentAfter,
      );
      await beating.becomes("unsure");
      // By its own clock, before the server's.
      expect(beating.unsureAt).toBeLessThan(await forgotten);
      await until("a problem to be told", patienceMs, () => beating.problems.length > 0);
      await faults.pass();
      await beating.becomes("owned");
      // Once for each time that it was unsure, not for each try.
      expect(beating.problems.length).toBeLessThanOrEqual((beating.said.length - 1) / 2);
      await until("the store to know it again", patienceMs, () => isAlive(other));
    },
  );

  rule("a connection that breaks and comes back at once changes nothing", async (bench, expect) => {
    const { store, other, faults, registration } = await faulty(bench);
    const beating = bench.use(beat(store, registration));
    await beating.heard("owned");
    await faults.cut();
    await takeAway(other, registration);
    // The watch goes on over the new connection.
    await expect(within("the end", patienceMs, beating.end)).rejects.toThrow(FencedError);
    await beating.heard("owned", "unsure");
  });

  rule("the loss of the subnet ends it with FencedError (G3)", async (bench, expect) => {
    const { store, other, registration } = await registered(bench);
    const beating = bench.use(beat(store, registration));
    await beating.heard("owned");
    await takeAway(other, registration);
    await expect(within("the end", patienceMs, beating.end)).rejects.toThrow(FencedError);
    expect(beating.said).toEqual(["owned", "unsure"]);
    expect(await isAlive(other)).toBe(false);
  });

  rule(
    "a node whose subnet went while it was away never calls it its own again (G3)",
    async (bench, expect) => {
      const { store, other, faults, registration } = await faulty(bench);
      const beating = bench.use(beat(store, registration, { ttlMs: shortTtlMs }));
      await beating.becomes("owned");
      await faults.blackhole();
      await beating.becomes("unsure");
      const { length } = beating.said;
      await takeAway(other, registration);
      await new Registry(other).register(requestOf("a"));
      await faults.pass();
      await expect(within("the end", patienceMs, beating.end)).rejects.toThrow(FencedError);
      expect(beating.said).toHaveLength(length);
    },
  );

  rule("it is unsure in time also while the caller still catches up (G7)", async (bench) => {
    const { store, faults, registration } = await faulty(bench);
    const { promise, resolve } = Promise.withResolvers<void>();
    const beating = bench.use(beat(store, registration, { ttlMs: shortTtlMs, onOwned: () => promise }));
    await beating.heard("owned");
    await faults.blackhole();
    await beating.becomes("unsure");
    await faults.pass();
    resolve();
    await beating.becomes("owned");
  });

  rule("a session that ended before its announcement was answered proves nothing (G7)", async (bench) => {
    const { store } = await registered(bench);
    let announcements = 0;
    // As after a stop of the process: the answer is old when it is read.
    const slow = interceptTxn(store, async ({ then = [] }, pass) => {
      const answer = await pass();
      for (const operation of then) {
        if (!("put" in operation) || operation.put !== keys.alive("a")) continue;
        announcements += 1;
        if (announcements === 1) await operation.session?.[Symbol.asyncDispose]();
      }
      return answer;
    });
    const beating = bench.use(beat(slow, await new Registry(slow).register(requestOf("a"))));
    await until("the second announcement", patienceMs, () => announcements === 2);
    await beating.heard("owned");
  });

  rule("a caller that fails when the subnet is its own is asked again", async (bench, expect) => {
    const { store, registration } = await registered(bench);
    let calls = 0;
    const beating = bench.use(
      beat(store, registration, {
        onOwned: async () => {
          calls += 1;
          if (calls < 3) throw new Error("the route could not be set");
        },
      }),
    );
    await beating.heard("owned", "unsure", "owned", "unsure", "owned");
    expect(beating.problems).toHaveLength(1);
  });

  rule("refused credentials end it", async (bench, expect) => {
    const { store } = await registered(bench);
    const refusing = interceptTxn(store, async ({ then = [] }, pass) => {
      if (then.some((operation) => "put" in operation && operation.put === keys.alive("a"))) {
        throw new AuthError("permission denied");
      }
      return pass();
    });
    const beating = bench.use(beat(refusing, await new Registry(refusing).register(requestOf("a"))));
    await expect(within("the end", patienceMs, beating.end)).rejects.toThrow(AuthError);
    expect(beating.said).toEqual([]);
  });

  rule("it stops in time also when the store does not answer", async (bench) => {
    const { store, other, faults, registration } = await faulty(bench);
    const beating = bench.use(beat(store, registration, { ttlMs: shortTtlMs }));
    await beating.becomes("owned");
    await faults.blackhole();
    await within("the end", patienceMs / 2, beating[Symbol.asyncDispose]());
    await beating.end;
    await until("the store to forget it", patienceMs, async () => !(await isAlive(other)));
  });
}
