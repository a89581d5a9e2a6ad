import { randomUUID } from "node:crypto";
import {
  type Compare,
  type Entry,
  InvalidError,
  type MonotonicClock,
  monotonicClock,
  type Revision,
} from "@cocoon-net/core";
import { compareKeys, SortedKeys } from "./sorted-keys.ts";

export interface MemoryDatabaseOptions {
  /** What sessions expire by; default the system's monotonic clock. */
  readonly clock?: MonotonicClock;
  /** Transactions that watchers and pinned reads can go back; default 10,000. */
  readonly historyLimit?: number;
}

/** One key's step in a transaction. `before` and `after` are undefined where the key was or is absent. */
export interface KeyChange {
  readonly key: string;
  readonly before: Entry | undefined;
  readonly after: Entry | undefined;
}

export interface Transaction {
  readonly revision: Revision;
  readonly changes: readonly KeyChange[];
}

/** An operation on full keys, with the id of the session that a put is tied to. */
export type DatabaseOperation =
  | { readonly put: string; readonly value: string; readonly sessionId: string | undefined }
  | { readonly delete: string }
  | { readonly get: string };

export interface DatabaseStep {
  readonly if: readonly Compare[];
  readonly then: readonly DatabaseOperation[];
}

interface SessionState {
  readonly ttlMs: number;
  readonly keys: Set<string>;
  cancelExpiry: () => void;
}

/**
 * The "server" of the memory store: what several Store handles share when they are to see one database.
 * Every method is synchronous and thereby atomic; keys are full keys.
 */
export class MemoryDatabase {
  readonly clock: MonotonicClock;
  readonly #historyLimit: number;
  readonly #entries = new Map<string, Entry>();
  readonly #order = new SortedKeys();
  readonly #sessions = new Map<string, SessionState>();
  readonly #sessionOfKey = new Map<string, string>();
  readonly #listeners = new Set<() => void>();
  #history: Transaction[] = [];
  #revision: Revision = 1;
  #compacted: Revision = 1;
  #incarnation: string = randomUUID();

  constructor(options: MemoryDatabaseOptions = {}) {
    this.clock = options.clock ?? monotonicClock;
    this.#historyLimit = options.historyLimit ?? 10_000;
  }

  get revision(): Revision {
    return this.#revision;
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  get(key: string): Entry | undefined {
    return this.#entries.get(key);
  }

  /**
   * Up to `limit` entries under `prefix`, after the key `after`, as they were at `revision`.
   * @throws {InvalidError} when that revision's history is gone or has not come yet.
   */
  list(
    prefix: string,
    limit: number,
    after: string | undefined,
    revision: Revision = this.#revision,
  ): Entry[] {
    const past = this.#before(revision);
    const entries: Entry[] = [];
    for (const key of past.size === 0 ? this.#order.range(prefix, after) : this.#union(past, prefix, after)) {
      const entry = past.has(key) ? past.get(key) : this.#entries.get(key);
      if (entry !== undefined) entries.push(entry);
      if (entries.length === limit) break;
    }
    return entries;
  }

  /** Applies the first of the steps whose compares all hold. `step` is the count of steps when none does. */
  txn(steps: readonly DatabaseStep[]): { step: number; revision: Revision; reads: (Entry | undefined)[] } {
    const found = steps.findIndex((each) => each.if.every((compare) => this.#holds(compare)));
    const step = found < 0 ? steps.length : found;
    const operations = steps[step]?.then ?? [];
    for (const operation of operations) {
      if (
        "put" in operation &&
        operation.sessionId !== undefined &&
        !this.#sessions.has(operation.sessionId)
      ) {
        throw new InvalidError(`session ${operation.sessionId} is over, ${operation.put} was not put`, {
          hint: "open a new session",
        });
      }
    }
    const reads = operations.flatMap((operation) => ("get" in operation ? [this.get(operation.get)] : []));
    const revision = this.#revision + 1;
    const changes: KeyChange[] = [];
    for (const operation of operations) {
      if ("put" in operation) changes.push(this.#put(operation, revision));
      else if ("delete" in operation) changes.push(...this.#delete(operation.delete));
    }
    this.#commit(revision, changes);
    return { step, revision: this.#revision, reads };
  }

  /** What changed after `revision`, or undefined when that history is gone. */
  transactionsAfter(revision: Revision): readonly Transaction[] | undefined {
    if (!(revision >= this.#compacted && revision <= this.#revision)) return undefined;
    const first = this.#history.findLastIndex((transaction) => transaction.revision <= revision) + 1;
    return this.#history.slice(first);
  }

  /** Forgets the history up to now, as a server's compaction does. */
  compact(): void {
    this.#history = [];
    this.#compacted = this.#revision;
  }

  /** Loses everything, as a server that restarts without its data: a new incarnation from revision 1. */
  wipe(): void {
    for (const session of this.#sessions.values()) session.cancelExpiry();
    this.#sessions.clear();
    this.#sessionOfKey.clear();
    this.#entries.clear();
    this.#order.clear();
    this.#revision = 1;
    this.#incarnation = randomUUID();
    this.compact();
    this.#notify();
  }

  openSession(ttlMs: number): string {
    const id = randomUUID();
    this.#sessions.set(id, { ttlMs, keys: new Set(), cancelExpiry: () => {} });
    this.keepAlive(id);
    return id;
  }

  /** Starts the session's time anew. False when it is over. */
  keepAlive(id: string): boolean {
    const session = this.#sessions.get(id);
    if (session === undefined) return false;
    session.cancelExpiry();
    session.cancelExpiry = this.clock.after(session.ttlMs, () => this.endSession(id));
    return true;
  }

  /** Ends the session and removes its keys in one transaction. */
  endSession(id: string): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    session.cancelExpiry();
    this.#sessions.delete(id);
    const keys = [...session.keys];
    this.#commit(
      this.#revision + 1,
      keys.flatMap((key) => this.#delete(key)),
    );
  }

  /** Calls `listener` after each transaction; the answer ends that. */
  onCommit(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #holds(compare: Compare): boolean {
    const entry = this.#entries.get(compare.key);
    if ("exists" in compare) return (entry !== undefined) === compare.exists;
    if ("createRevision" in compare) return entry?.createRevision === compare.createRevision;
    if ("modRevision" in compare) return entry?.modRevision === compare.modRevision;
    return entry?.value === compare.value;
  }

  #put(
    operation: { put: string; value: string; sessionId: string | undefined },
    revision: Revision,
  ): KeyChange {
    const { put: key, value, sessionId } = operation;
    const before = this.#entries.get(key);
    const createRevision = before?.createRevision ?? revision;
    const after: Entry = { key, value, createRevision, modRevision: revision };
    this.#untie(key);
    this.#entries.set(key, after);
    this.#order.add(key);
    if (sessionId !== undefined) {
      this.#sessions.get(sessionId)?.keys.add(key);
      this.#sessionOfKey.set(key, sessionId);
    }
    return { key, before, after };
  }

  #delete(key: string): KeyChange[] {
    const before = this.#entries.get(key);
    if (before === undefined) return [];
    this.#untie(key);
    this.#entries.delete(key);
    this.#order.delete(key);
    return [{ key, before, after: undefined }];
  }

  /** A key belongs to the session of its newest put only. */
  #untie(key: string): void {
    const sessionId = this.#sessionOfKey.get(key);
    if (sessionId === undefined) return;
    this.#sessionOfKey.delete(key);
    this.#sessions.get(sessionId)?.keys.delete(key);
  }

  #commit(revision: Revision, changes: readonly KeyChange[]): void {
    if (changes.length === 0) return;
    this.#revision = revision;
    this.#history.push({ revision, changes });
    // Cut only at twice the limit, so that the cost per transaction stays constant.
    if (this.#history.length > 2 * this.#historyLimit) {
      this.#history = this.#history.slice(-this.#historyLimit);
      this.#compacted = (this.#history[0]?.revision ?? revision) - 1;
    }
    this.#notify();
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** The keys that are or were: those of now and those of `past`, in order. */
  #union(past: ReadonlyMap<string, unknown>, prefix: string, after: string | undefined): string[] {
    const gone = [...past.keys()].filter(
      (key) => key.startsWith(prefix) && (after === undefined || compareKeys(key, after) > 0),
    );
    return [...new Set([...this.#order.range(prefix, after), ...gone])].sort(compareKeys);
  }

  /** For each key that changed after `revision`, what it was then. */
  #before(revision: Revision): ReadonlyMap<string, Entry | undefined> {
    const past = new Map<string, Entry | undefined>();
    if (revision === this.#revision) return past;
    const transactions = this.transactionsAfter(revision);
    if (transactions === undefined) {
      throw new InvalidError(
        `revision ${revision} cannot be read: history reaches from ${this.#compacted} to ${this.#revision}`,
        {
          hint: "start the listing anew without a revision",
        },
      );
    }
    for (const { changes } of transactions.toReversed()) {
      for (const change of changes) past.set(change.key, change.before);
    }
    return past;
  }
}
