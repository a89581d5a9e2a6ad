import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type Outcome, type Store, UnavailableError } from "@cocoon-net/core";

/** Makes one key after another, and keeps what it was told of each. */
export class Writer implements AsyncDisposable {
  readonly told = new Map<string, "done" | Outcome>();
  readonly errors: UnavailableError[] = [];
  /** When the newest write that makes no key was done, by `performance.now`. */
  beatAt = 0;
  readonly #store: Store;
  readonly #prefix: string;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(store: Store, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
    this.#done = this.#run();
  }

  get stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Resolves once the write on its way is decided. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** What it was told is how it came: what is done is there, what is not done is not, what is in doubt may be. */
  async check(store: Store): Promise<{ readonly lost: readonly string[] }> {
    const present = new Set<string>();
    let after: string | undefined = "";
    while (after !== undefined) {
      const { entries, next } = await store.list(this.#prefix, { after });
      for (const { key } of entries) present.add(key);
      after = next;
    }
    const of = (outcome: string) => [...this.told].filter(([, told]) => told === outcome).map(([key]) => key);
    assert.deepEqual(
      of("none").filter((key) => present.has(key)),
      [],
      "told to be certainly not applied, and there",
    );
    return { lost: of("done").filter((key) => !present.has(key)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.stopped; turn += 1) {
      const key = `${this.#prefix}${turn}`;
      const beat = `${this.#prefix}beat`;
      this.told.set(key, await this.#outcome(key));
      if ((await this.#outcome(beat)) === "done") this.beatAt = performance.now();
      await sleep(2);
    }
  }

  async #outcome(key: string): Promise<"done" | Outcome> {
    try {
      await this.#store.txn({ then: [{ put: key, value: "" }] }, { timeoutMs: 1_000 });
      return "done";
    } catch (error) {
      assert.ok(error instanceof UnavailableError, String(error));
      this.errors.push(error);
      return error.outcome;
    }
  }
}
