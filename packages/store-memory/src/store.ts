import {
  type CallOptions,
  type Change,
  type Compare,
  checkKey,
  checkTxn,
  type Entry,
  type GetResult,
  InvalidError,
  KeptSession,
  type ListOptions,
  type ListResult,
  type Operation,
  type Session,
  type Store,
  type StoreCapabilities,
  serverTtlMs,
  stepsOf,
  type TxnRequest,
  type TxnResult,
  UnavailableError,
  type WatchBatch,
  type WatchOptions,
  writesOf,
} from "@cocoon-net/core";
import { type DatabaseOperation, MemoryDatabase, type Transaction } from "./database.ts";
import { MemoryLink } from "./link.ts";

export interface MemoryStoreOptions {
  /** Shared by all handles that are to see one another's writes; default a new, empty one. */
  readonly database?: MemoryDatabase;
  /** Put before every key; default none. */
  readonly prefix?: string;
  /** The way to the database, to put faults into; default one that passes everything. */
  readonly link?: MemoryLink | undefined;
}

const capabilities: StoreCapabilities = {
  server: "memory",
  linearizable: true,
  pinnedReads: true,
  durability: "nothing survives the end of this process",
  trustworthy: true,
  maxOperations: 128,
  maxValueBytes: 1_048_576,
};

/** Opens a handle on an in-process database. Calls have a deadline of 2,000 ms unless told otherwise. */
export function openMemoryStore(options: MemoryStoreOptions = {}): Store {
  return new MemoryStore(
    options.database ?? new MemoryDatabase(),
    options.prefix ?? "",
    options.link ?? new MemoryLink(),
  );
}

class MemoryStore implements Store {
  readonly label = "memory:";
  readonly capabilities = capabilities;
  readonly #database: MemoryDatabase;
  readonly #prefix: string;
  readonly #link: MemoryLink;
  readonly #closed = new AbortController();
  readonly #sessions = new Map<string, Session>();
  #disposed: Promise<void> | undefined;

  constructor(database: MemoryDatabase, prefix: string, link: MemoryLink) {
    this.#database = database;
    this.#prefix = prefix === "" ? "" : `${prefix.replace(/\/+$/, "")}/`;
    this.#link = link;
  }

  async get(key: string, options?: CallOptions): Promise<GetResult> {
    const full = this.#full(key);
    return this.#call(`get ${key}`, options, false, () => ({
      entry: this.#relative(this.#database.get(full)),
      revision: this.#database.revision,
    }));
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListResult> {
    const limit = options.limit ?? 1_000;
    if (!Number.isInteger(limit) || limit < 1)
      throw new InvalidError(`list limit ${limit} is not a positive integer`);
    const after = options.after === undefined ? undefined : this.#full(options.after);
    return this.#call(`list ${prefix}`, options, false, () => {
      const revision = options.revision ?? this.#database.revision;
      const found = this.#database.list(this.#prefix + prefix, limit + 1, after, revision);
      const entries = found.slice(0, limit).map((entry) => this.#relativeEntry(entry));
      return { entries, revision, next: found.length > limit ? entries.at(-1)?.key : undefined };
    });
  }

  async txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult> {
    checkTxn(request, capabilities);
    const steps = stepsOf(request).map(({ if: compares = [], then = [] }) => ({
      if: compares.map((compare): Compare => ({ ...compare, key: this.#full(compare.key) })),
      then: then.map((operation) => this.#operation(operation)),
    }));
    return this.#call("txn", options, writesOf(request), () => {
      const { step, revision, reads } = this.#database.txn(steps);
      const succeeded = step < steps.length - 1;
      return { succeeded, step, revision, reads: reads.map((entry) => this.#relative(entry)) };
    });
  }

  async *watch(prefix: string, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const full = this.#prefix + prefix;
    const database = this.#database;
    const ended = AbortSignal.any([this.#closed.signal, ...(options.signal ? [options.signal] : [])]);
    let { incarnation } = database;
    let seen = options.fromRevision;
    while (!ended.aborted) {
      await this.#until(
        ended,
        () => this.#link.passing && (seen !== database.revision || incarnation !== database.incarnation),
      );
      if (ended.aborted) return;
      // A wiped database counts its revisions anew: what was seen of the old one means nothing in it.
      const news =
        seen === undefined || incarnation !== database.incarnation
          ? undefined
          : database.transactionsAfter(seen);
      incarnation = database.incarnation;
      seen = database.revision;
      if (news === undefined) {
        const entries = database.list(full, Number.POSITIVE_INFINITY, undefined);
        yield {
          type: "snapshot",
          revision: seen,
          entries: entries.map((entry) => this.#relativeEntry(entry)),
        };
        continue;
      }
      for (const transaction of news) {
        const changes = this.#changes(transaction, full);
        if (changes.length === 0) continue;
        yield { type: "changes", revision: transaction.revision, changes };
        if (ended.aborted) return;
      }
    }
  }

  async session(ttlMs: number, options?: CallOptions): Promise<Session> {
    const serverTtl = serverTtlMs(ttlMs);
    const { clock } = this.#database;
    const sentAt = clock.now();
    const id = await this.#call("open a session", options, true, () => this.#database.openSession(serverTtl));
    const session = new KeptSession({
      ...{ id, ttlMs, sentAt, clock, where: this.label },
      renew: (timeoutMs) =>
        this.#call("keep a session alive", { timeoutMs }, true, () => this.#database.keepAlive(id)),
      end: () => this.#call("end a session", undefined, true, () => this.#database.endSession(id)),
    });
    // Closed while it was being opened: nobody else would end it.
    if (this.#disposed !== undefined) await session[Symbol.asyncDispose]();
    this.#sessions.set(id, session);
    session.signal.addEventListener("abort", () => this.#sessions.delete(id), { once: true });
    return session;
  }

  async incarnation(options?: CallOptions): Promise<string> {
    return this.#call("read the incarnation", options, false, () => this.#database.incarnation);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    const ending = [...this.#sessions.values()].map((session) => session[Symbol.asyncDispose]());
    // What the link carries, it carries in this turn; what it holds or loses is not waited for.
    await new Promise((resolve) => setImmediate(resolve));
    this.#closed.abort();
    await Promise.all(ending);
  }

  #call<T>(what: string, options: CallOptions | undefined, writes: boolean, apply: () => T): Promise<T> {
    const described = `${what} on ${this.label}`;
    if (this.#closed.signal.aborted) {
      throw new UnavailableError(`${described}: the store is closed`, { outcome: "none" });
    }
    const call = { ...options, what: described, writes, closed: this.#closed.signal };
    return this.#link.carry(call, this.#database.clock, apply);
  }

  #full(key: string): string {
    checkKey(key);
    return this.#prefix + key;
  }

  #relative(entry: Entry | undefined): Entry | undefined {
    return entry === undefined ? undefined : this.#relativeEntry(entry);
  }

  #relativeEntry(entry: Entry): Entry {
    return this.#prefix === "" ? entry : { ...entry, key: entry.key.slice(this.#prefix.length) };
  }

  #operation(operation: Operation): DatabaseOperation {
    if ("get" in operation) return { get: this.#full(operation.get) };
    if ("delete" in operation) return { delete: this.#full(operation.delete) };
    const { put, value, session } = operation;
    if (session && !this.#sessions.has(session.id)) {
      throw new InvalidError(`${put} is to be tied to session ${session.id}, which is not of this store`);
    }
    return { put: this.#full(put), value, sessionId: session?.id };
  }

  #changes(transaction: Transaction, prefix: string): Change[] {
    return transaction.changes
      .filter(({ key }) => key.startsWith(prefix))
      .map(({ key, after }) =>
        after === undefined
          ? { type: "delete", key: key.slice(this.#prefix.length), revision: transaction.revision }
          : { type: "put", entry: this.#relativeEntry(after) },
      );
  }

  /** Waits until `ready` holds or `ended` aborts; what can change it are commits and the link. */
  async #until(ended: AbortSignal, ready: () => boolean): Promise<void> {
    while (!ended.aborted && !ready()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const offCommit = this.#database.onCommit(resolve);
      const offLink = this.#link.onChange(resolve);
      const onEnd = () => resolve();
      ended.addEventListener("abort", onEnd);
      await promise;
      ended.removeEventListener("abort", onEnd);
      offCommit();
      offLink();
    }
  }
}
