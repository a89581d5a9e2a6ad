import { randomBytes } from "node:crypto";
import { DisposeStack, type Store } from "@cocoon-net/core";
import type { Faults } from "./faults.ts";

/** What the suite needs to know about a backend. Everything else it reads from `store.capabilities`. */
export interface StoreUnderTest {
  readonly name: string;
  /** Opens a new handle whose keys lie under `prefix` (`/conformance/1a2b`), always on the same backend. */
  open(options: { readonly prefix: string }): Promise<Store>;
  /**
   * The same, over a path with faults of its own, for example through `startFaultProxy`. Without it the
   * checks of failures are left out.
   */
  openFaulty?(options: { readonly prefix: string }): Promise<FaultyStore>;
  /** Makes the server forget what changed until now, as compaction does. Without it that check is left out. */
  forgetHistory?(): Promise<void>;
}

export interface FaultyStore {
  readonly store: Store;
  readonly faults: Faults;
}

/** One thing that every Store must do. It throws when the store does not. */
export interface Check {
  readonly name: string;
  /** The parts of {@link StoreUnderTest} that it cannot do without. */
  readonly needs?: readonly ("openFaulty" | "forgetHistory")[];
  run(bench: Bench): Promise<void>;
}

export interface CheckGroup {
  readonly name: string;
  /** True when its checks disturb others on the same server; all other checks may run concurrently. */
  readonly alone?: boolean;
  readonly checks: readonly Check[];
}

/** What one check works with: a prefix that nobody else uses, and handles that are closed after it. */
export class Bench implements AsyncDisposable {
  readonly prefix: string = `/conformance/${randomBytes(6).toString("hex")}`;
  readonly #subject: StoreUnderTest;
  readonly #opened = new DisposeStack();

  constructor(subject: StoreUnderTest) {
    this.#subject = subject;
  }

  async open(prefix: string = this.prefix): Promise<Store> {
    return this.#opened.use(await this.#subject.open({ prefix }));
  }

  async openFaulty(): Promise<FaultyStore> {
    if (this.#subject.openFaulty === undefined) throw new Error(`${this.#subject.name} has no openFaulty`);
    const { store, faults } = await this.#subject.openFaulty({ prefix: this.prefix });
    this.#opened.use(faults);
    this.#opened.use(store);
    return { store, faults };
  }

  async forgetHistory(): Promise<void> {
    if (this.#subject.forgetHistory === undefined) {
      throw new Error(`${this.#subject.name} has no forgetHistory`);
    }
    await this.#subject.forgetHistory();
  }

  /** Disposes `thing` after the check, before the handles that were opened until now. */
  use<T extends AsyncDisposable>(thing: T): T {
    return this.#opened.use(thing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

/** Whether `subject` has what `check` needs. */
export function applies(check: Check, subject: StoreUnderTest): boolean {
  return (check.needs ?? []).every((part) => subject[part] !== undefined);
}

/** Runs one check without a test runner. Rejects when the store does not pass. */
export async function runCheck(check: Check, subject: StoreUnderTest): Promise<void> {
  await using bench = new Bench(subject);
  await check.run(bench);
}
