import { campaign, InvalidError, keys, type Leadership, type Store } from "@cocoon-net/core";
import { type Bench, until, within } from "@cocoon-net/store-testkit";
import { interceptTxn, loseAnswers } from "./intercepted-store.ts";
import { lastingTtlMs, momentAfter, patienceMs, type Rule } from "./rule.ts";

/** For who shall fall silent. etcd grants no less with its default election timeout. */
const shortTtlMs = 2_000;

/** Whether a write under this fence would go through. */
const holds = async (store: Store, { fence }: Leadership): Promise<boolean> =>
  (await store.txn({ if: [fence] })).succeeded;

/** Candidates, each with a handle of its own, and those who won, in order. */
class Candidates implements AsyncDisposable {
  readonly won: { readonly id: string; readonly leadership: Leadership; readonly at: number }[] = [];
  readonly #bench: Bench;
  readonly #stop = new AbortController();
  readonly #campaigns: Promise<void>[] = [];

  constructor(bench: Bench) {
    this.#bench = bench;
    bench.use(this);
  }

  async add(id: string, store?: Store, ttlMs: number = lastingTtlMs): Promise<void> {
    const own = store ?? (await this.#bench.open());
    const run = campaign(own, { id, ttlMs, signal: this.#stop.signal }).then(async (leadership) => {
      this.won.push({ id, leadership, at: await momentAfter() });
    });
    this.#campaigns.push(run);
    run.catch(() => {});
  }

  /** The `count`th win. */
  async winner(count: number): Promise<(typeof this.won)[number]> {
    return until(`leader number ${count}`, patienceMs, () => this.won[count - 1]);
  }

  /** The ids of those who lead by their own account. */
  get leading(): string[] {
    return this.won.filter(({ leadership }) => !leadership.signal.aborted).map(({ id }) => id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#campaigns);
    await Promise.all(this.won.map(({ leadership }) => leadership[Symbol.asyncDispose]()));
  }
}

export function electionRules(rule: Rule): void {
  rule("of five candidates exactly one leads, and when it resigns the next does", async (bench, expect) => {
    const store = await bench.open();
    const candidates = new Candidates(bench);
    for (const id of ["a", "b", "c", "d", "e"]) await candidates.add(id);
    for (let term = 1; term <= 5; term++) {
      const { id, leadership } = await candidates.winner(term);
      expect(candidates.leading).toEqual([id]);
      expect(JSON.parse((await store.get(keys.leader)).entry?.value ?? "")).toMatchObject({ id });
      const fences = await Promise.all(candidates.won.map((each) => holds(store, each.leadership)));
      expect(fences).toEqual([...Array(term - 1).fill(false), true]);
      const started = performance.now();
      await leadership[Symbol.asyncDispose]();
      expect(leadership.signal.aborted).toBe(true);
      if (term === 5) break;
      await candidates.winner(term + 1);
      // Told by the store, not found at the end of a pause or a TTL.
      expect(performance.now() - started).toBeLessThan(lastingTtlMs / 9);
    }
    expect(new Set(candidates.won.map(({ id }) => id)).size).toBe(5);
    expect((await store.get(keys.leader)).entry).toBeUndefined();
  });

  rule("a leader that falls silent knows it before the next one leads", async (bench, expect) => {
    const { store: path, faults } = await bench.openFaulty();
    const store = await bench.open();
    const candidates = new Candidates(bench);
    await candidates.add("first", path, shortTtlMs);
    const first = await candidates.winner(1);
    const { signal } = first.leadership;
    let lostAt = signal.aborted ? performance.now() : 0;
    signal.addEventListener("abort", () => {
      lostAt = performance.now();
    });
    await candidates.add("second");
    await faults.blackhole();
    const second = await candidates.winner(2);
    expect(lostAt).toBeGreaterThan(0);
    expect(lostAt).toBeLessThanOrEqual(second.at);
    expect(candidates.leading).toEqual(["second"]);
    expect(await holds(store, second.leadership)).toBe(true);
    await faults.pass();
    // What it still had under way fails.
    const late = await path.txn({ if: [first.leadership.fence], then: [{ put: "x", value: "" }] });
    expect(late.succeeded).toBe(false);
    expect(await holds(store, second.leadership)).toBe(true);
  });

  for (const outcome of ["unknown", "none"] as const) {
    rule(
      `a lost answer (outcome ${outcome}) to the winning write still yields one leader`,
      async (bench, expect) => {
        const store = await bench.open();
        const candidates = new Candidates(bench);
        await candidates.add("a", loseAnswers(await bench.open(), keys.leader, outcome));
        const first = await candidates.winner(1);
        await candidates.add("b");
        expect(await holds(store, first.leadership)).toBe(true);
        expect(candidates.leading).toEqual(["a"]);
        await first.leadership[Symbol.asyncDispose]();
        expect((await candidates.winner(2)).id).toBe("b");
      },
    );
  }

  rule("a session that the server has forgotten does not end the campaign", async (bench, expect) => {
    let forgotten = 0;
    const store = interceptTxn(await bench.open(), async ({ then = [] }, pass) => {
      if (forgotten === 0 && then.some((operation) => "put" in operation && operation.session)) {
        forgotten += 1;
        throw new InvalidError("the session is over");
      }
      return pass();
    });
    const candidates = new Candidates(bench);
    await candidates.add("a", store);
    expect((await candidates.winner(1)).id).toBe("a");
  });

  rule("a campaign ends with its signal, and leaves nothing behind", async (bench, expect) => {
    const store = await bench.open();
    const leader = bench.use(await campaign(store, { id: "a", ttlMs: lastingTtlMs }));
    const stop = new AbortController();
    const waiting = campaign(await bench.open(), { id: "b", ttlMs: lastingTtlMs, signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(within("the end", patienceMs, waiting)).rejects.toThrow("enough");
    await leader[Symbol.asyncDispose]();
    expect((await store.get(keys.leader)).entry).toBeUndefined();
  });

  rule("unusable settings end a campaign at once", async (bench, expect) => {
    await expect(campaign(await bench.open(), { id: "a", ttlMs: -1 })).rejects.toThrow(InvalidError);
  });
}
