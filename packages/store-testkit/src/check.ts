import { randomBytes } from "node:crypto";
import { DisposeStack, type Store } from "@cocoon-net/core";
import type { Faults } from "./faults.ts";

export interface OpenOptions<Path extends Faults = Faults> {
  /** What the handle's keys lie under: `/conformance/1a2b`. */
  readonly prefix: string;
  /** The way to the server to open it over, one that `faults` has made. Absent: straight. */
  readonly via?: Path | undefined;
}

/**
 * What the suite needs to know about a backend; limits and guarantees it reads from `store.capabilities`. Checks
 * that need a part which is not given are left out.
 */
export interface StoreUnderTest<Path extends Faults = Faults> {
  readonly name: string;
  /** Opens a new handle, always on the same backend. */
  open(options: OpenOptions<Path>): Promise<Store>;
  /** Makes a new way to the server, with faults of its own: `() => startFaultProxy({ target: server })`. */
  faults?(): Path | Promise<Path>;
  /** Makes the server forget what changed until now, as compaction does. */
  forgetHistory?(): Promise<void>;
  /** The server's process, to be stopped (SIGSTOP) and continued: `() => server`. */
  server?(): { pause(): void; resume(): void };
  /** How a process of its own opens the store, to be stopped, killed and left to end by itself. */
  readonly driver?: {
    /** URL of the module whose default export is the `StoreDriver`: `import.meta.resolve("…")`. */
    readonly module: string;
    url(options: OpenOptions<Path>): string;
  };
}

export interface FaultyStore {
  readonly store: Store;
  readonly faults: Faults;
}

/** The parts of {@link StoreUnderTest} that a check may need. */
export type Part = "faults" | "forgetHistory" | "server" | "driver";

/** One thing that every Store must do. It throws when the store does not. */
export interface Check {
  readonly name: string;
  /** What it cannot do without. */
  readonly needs?: readonly Part[];
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
    const faults = await this.makeFaults();
    const store = this.#opened.use(await this.#subject.open({ prefix: this.prefix, via: faults }));
    return { store, faults };
  }

  /** A way to the server, for a process of its own. */
  async makeFaults(): Promise<Faults> {
    return this.#opened.use(await (this.#subject.faults?.() ?? this.#missing("faults")));
  }

  async forgetHistory(): Promise<void> {
    await (this.#subject.forgetHistory?.() ?? this.#missing("forgetHistory"));
  }

  get server(): { pause(): void; resume(): void } {
    return this.#subject.server?.() ?? this.#missing("server");
  }

  /** Module and URL, for a process of its own that opens the store. */
  driver(via?: Faults): { readonly module: string; readonly url: string } {
    const driver = this.#subject.driver ?? this.#missing("driver");
    return { module: driver.module, url: driver.url({ prefix: this.prefix, via }) };
  }

  /** Disposes `thing` after the check, before the handles that were opened until now. */
  use<T extends AsyncDisposable>(thing: T): T {
    return this.#opened.use(thing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }

  #missing(part: Part): never {
    throw new Error(`${this.#subject.name} has no ${part}`);
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
