import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import {
  Backoff,
  type CallOptions,
  type Change,
  type Compare,
  type ConnectionUrl,
  checkTxn,
  describeError,
  type Entry,
  ExhaustedError,
  type GetResult,
  InvalidError,
  KeptSession,
  type ListOptions,
  type ListResult,
  type Operation,
  pause,
  type Revision,
  rejectUnknownParameters,
  type Session,
  type Store,
  type StoreCapabilities,
  type StoreDriver,
  serverTtlMs,
  stepsOf,
  type TxnRequest,
  type TxnResult,
  UnavailableError,
  type WatchBatch,
  type WatchOptions,
  writesOf,
} from "@cocoon-net/core";

/**
 * A cocoon-net store in one SQLite file, for the processes of one machine.
 *
 * 1. Every write is one `BEGIN IMMEDIATE` transaction, synced to disk before its answer (WAL, synchronous=FULL).
 * 2. SQLite never waits: where another process holds the file, the call waits here and tries again until its deadline,
 *    so that nothing else in this process stands still.
 * 3. A session's time is the machine's monotonic clock, which all its processes share, together with the id of this
 *    boot: what was alive before a reboot is not alive after it.
 * 4. Every call first removes what hangs on sessions that are over, so an expired key is never read.
 */

const schema = `
  CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value ANY) STRICT;
  CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, session TEXT) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS tied ON entries (session) WHERE session IS NOT NULL;
  CREATE TABLE IF NOT EXISTS changes (revision INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, created INTEGER,
    PRIMARY KEY (revision, key)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, boot TEXT NOT NULL, expires INTEGER NOT NULL) STRICT;
  INSERT OR IGNORE INTO state VALUES ('revision', 1), ('forgotten', 1);
`;

const capabilities = {
  linearizable: true,
  pinnedReads: false,
  durability: "synced to this machine's disk before it is acknowledged; lost with that disk",
  trustworthy: true,
  maxOperations: 128,
  maxValueBytes: 1_048_576,
} as const;

const defaultTimeoutMs = 2_000;
/** How often a watch looks whether another process has written. */
const pollMs = 25;
/** Revisions that a watch can catch up on. */
const history = 10_000;

/** `sqlite:///absolute/path.db[?prefix=/cocoon-net]` */
const driver: StoreDriver = {
  schemes: ["sqlite"],
  async open(url: ConnectionUrl, options: CallOptions = {}): Promise<Store> {
    rejectUnknownParameters(url, ["prefix"]);
    if (url.hosts.length > 0 || url.username !== undefined || url.path === "") {
      throw new InvalidError(`store URL ${url.label} does not name a file`, {
        hint: "write sqlite:///absolute/path.db",
      });
    }
    const prefix = url.parameters.get("prefix") ?? "/cocoon-net";
    return openSqliteStore(url.path, { prefix, label: url.label }, options);
  },
};

export default driver;

export interface SqliteStoreOptions {
  /** Put before every key; default `/cocoon-net`. */
  readonly prefix?: string;
  readonly label?: string;
}

/** Opens or creates the file. @throws {InvalidError} when it cannot be opened or is no database. */
export async function openSqliteStore(
  path: string,
  { prefix = "/cocoon-net", label = `sqlite://${path}` }: SqliteStoreOptions = {},
  { signal, timeoutMs = defaultTimeoutMs }: CallOptions = {},
): Promise<Store> {
  signal?.throwIfAborted();
  let database: DatabaseSync | undefined;
  try {
    const opened = new DatabaseSync(path);
    database = opened;
    await whenFree(`open ${label}`, { signal, timeoutMs }, () => {
      opened.exec("PRAGMA busy_timeout = 0; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
      const known = opened.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'state'").get();
      if (known) return;
      opened.exec(`BEGIN IMMEDIATE; ${schema}`);
      opened.prepare("INSERT OR IGNORE INTO state VALUES ('incarnation', ?)").run(randomUUID());
      opened.exec("COMMIT");
    });
    return new SqliteStore(opened, label, prefix);
  } catch (cause) {
    database?.close();
    signal?.throwIfAborted();
    if (cause instanceof UnavailableError) throw cause;
    throw new InvalidError(`${label} cannot be opened: ${describeError(cause)}`, { cause });
  }
}

type Row = Readonly<Record<string, SQLInputValue>>;

class SqliteStore implements Store {
  readonly label: string;
  readonly capabilities: StoreCapabilities;
  readonly #database: DatabaseSync;
  readonly #prefix: string;
  readonly #closed = new AbortController();
  readonly #sessions = new Map<string, Session>();
  #disposed: Promise<void> | undefined;
  readonly #boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

  constructor(database: DatabaseSync, label: string, prefix: string) {
    this.#database = database;
    this.label = label;
    this.#prefix = `${prefix.replace(/\/+$/, "")}/`;
    const version = database.prepare("SELECT sqlite_version() AS version").get()?.version;
    this.capabilities = { server: `SQLite ${version}`, ...capabilities };
  }

  async get(key: string, options?: CallOptions): Promise<GetResult> {
    return this.#call(`get ${key}`, options, false, () => ({
      entry: this.#entry(key),
      revision: this.#revision(),
    }));
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListResult> {
    const { limit = 1_000, after } = options;
    if (!Number.isInteger(limit) || limit < 1)
      throw new InvalidError(`list limit ${limit} is not a positive integer`);
    return this.#call(`list ${prefix}`, options, false, () => {
      const found = this.#entries(prefix, after, limit + 1);
      const entries = found.slice(0, limit);
      return {
        entries,
        revision: this.#revision(),
        next: found.length > limit ? entries.at(-1)?.key : undefined,
      };
    });
  }

  async txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult> {
    checkTxn(request, this.capabilities);
    const steps = stepsOf(request);
    for (const { if: compares = [], then = [] } of steps) {
      for (const { key } of compares) this.#full(key);
      for (const operation of then) this.#check(operation);
    }
    return this.#call("transaction", options, writesOf(request), () => {
      // The last step has no comparisons.
      const step = steps.findIndex(({ if: compares = [] }) => compares.every((each) => this.#holds(each)));
      const operations = steps[step]?.then ?? [];
      const reads = operations.flatMap((operation) =>
        "get" in operation ? [this.#entry(operation.get)] : [],
      );
      const revision = this.#write(operations);
      return { succeeded: step < steps.length - 1, step, revision, reads };
    });
  }

  async *watch(prefix: string, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const ended = AbortSignal.any([this.#closed.signal, ...(options.signal ? [options.signal] : [])]);
    const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
    let seen = options.fromRevision;
    for (let first = true; !ended.aborted; first = false) {
      if (!first && (await this.#unchanged(seen, ended))) continue;
      let batches: readonly WatchBatch[];
      try {
        batches = await this.#call(`watch ${prefix}`, { signal: ended }, false, () => {
          const news = this.#since(prefix, seen);
          seen = this.#revision();
          return news;
        });
        backoff.reset();
      } catch (error) {
        if (ended.aborted) return;
        if (!(error instanceof UnavailableError)) throw error;
        await backoff.wait(ended).catch(() => undefined);
        continue;
      }
      for (const batch of batches) {
        if (ended.aborted) return;
        yield batch;
      }
    }
  }

  async session(ttlMs: number, options?: CallOptions): Promise<Session> {
    const ttl = Math.ceil(serverTtlMs(ttlMs));
    const id = randomUUID();
    const sentAt = performance.now();
    await this.#call("open a session", options, true, () => {
      this.#run("INSERT INTO sessions VALUES (?, ?, ?)", id, this.#boot, machineNow() + ttl);
    });
    const session = new KeptSession({
      ...{ id, ttlMs, sentAt, where: this.label },
      renew: (timeoutMs) =>
        this.#call("keep a session alive", { timeoutMs }, true, () => {
          const renew = "UPDATE sessions SET expires = ? WHERE id = ?";
          return this.#database.prepare(renew).run(machineNow() + ttl, id).changes === 1;
        }),
      end: () =>
        this.#call("end a session", undefined, true, () => {
          this.#end(id);
        }),
    });
    // Closed while it was being opened: nobody else would end it.
    if (this.#disposed !== undefined) await session[Symbol.asyncDispose]();
    this.#sessions.set(id, session);
    session.signal.addEventListener("abort", () => this.#sessions.delete(id), { once: true });
    return session;
  }

  /** The file's own: another file, other contents. A file that was put back from a backup keeps it. */
  async incarnation(options?: CallOptions): Promise<string> {
    return this.#call("read the incarnation", options, false, () => String(this.#state("incarnation")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map((session) => session[Symbol.asyncDispose]()));
    this.#closed.abort();
    this.#database.close();
  }

  /** One transaction: `work` is synchronous, so nobody else sees half of it. */
  async #call<T>(what: string, call: CallOptions | undefined, writes: boolean, work: () => T): Promise<T> {
    const { signal, timeoutMs = defaultTimeoutMs } = call ?? {};
    return whenFree(`${what} on ${this.label}`, { signal, timeoutMs, closed: this.#closed.signal }, () => {
      const database = this.#database;
      database.exec(writes || this.#due() ? "BEGIN IMMEDIATE" : "BEGIN");
      try {
        if (this.#due()) this.#reap();
        const answer = work();
        database.exec("COMMIT");
        return answer;
      } catch (error) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw error;
      }
    });
  }

  #entry(key: string): Entry | undefined {
    const row = this.#database.prepare("SELECT * FROM entries WHERE key = ?").get(this.#full(key));
    return row && this.#decode(row);
  }

  #entries(prefix: string, after: string | undefined, limit: number): Entry[] {
    const [low, high] = rangeOf(this.#prefix + prefix);
    const start = after === undefined ? low : this.#prefix + after;
    // SQLite compares texts byte by byte, as the port wants it.
    const select = `SELECT * FROM entries WHERE key >= ? AND key < ? AND key ${after === undefined ? ">=" : ">"} ?
      ORDER BY key LIMIT ?`;
    return this.#database
      .prepare(select)
      .all(low, high, start, limit)
      .map((row) => this.#decode(row));
  }

  #decode(row: Row): Entry {
    return {
      key: String(row.key).slice(this.#prefix.length),
      value: textOf(row.value),
      createRevision: Number(row.created),
      modRevision: Number(row.modified ?? row.revision),
    };
  }

  #holds(compare: Compare): boolean {
    const entry = this.#entry(compare.key);
    if ("exists" in compare) return (entry !== undefined) === compare.exists;
    if ("createRevision" in compare) return entry?.createRevision === compare.createRevision;
    if ("modRevision" in compare) return entry?.modRevision === compare.modRevision;
    return entry?.value === compare.value;
  }

  /** All under one new revision; none when nothing changes. */
  #write(operations: readonly Operation[]): Revision {
    let revision = this.#revision();
    const next = revision + 1;
    for (const operation of operations) {
      if ("get" in operation) continue;
      if ("delete" in operation) {
        const { changes } = this.#run("DELETE FROM entries WHERE key = ?", this.#full(operation.delete));
        if (changes === 0) continue;
        this.#run("INSERT INTO changes VALUES (?, ?, NULL, NULL)", next, this.#full(operation.delete));
      } else {
        const { put, value, session } = operation;
        if (session && !this.#database.prepare("SELECT 1 FROM sessions WHERE id = ?").get(session.id)) {
          throw new InvalidError(`session ${session.id} is over, ${put} was not put`);
        }
        const [key, bytes] = [this.#full(put), Buffer.from(value)];
        this.#run(
          `INSERT INTO entries VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (key)
            DO UPDATE SET value = ?2, modified = ?3, session = ?4`,
          ...[key, bytes, next, session?.id ?? null],
        );
        this.#run(
          "INSERT INTO changes SELECT ?, key, value, created FROM entries WHERE key = ?",
          ...[next, key],
        );
      }
      revision = next;
    }
    if (revision === next) this.#advance(next);
    return revision;
  }

  #advance(revision: Revision): void {
    this.#run("UPDATE state SET value = ? WHERE name = 'revision'", revision);
    const last = revision - history;
    if (last <= Number(this.#state("forgotten"))) return;
    this.#run("DELETE FROM changes WHERE revision <= ?", last);
    this.#run("UPDATE state SET value = ? WHERE name = 'forgotten'", last);
  }

  #check(operation: Operation): void {
    if ("get" in operation) this.#full(operation.get);
    else if ("delete" in operation) this.#full(operation.delete);
    else {
      this.#full(operation.put);
      const { session } = operation;
      if (!session || this.#sessions.has(session.id)) return;
      throw new InvalidError(`session ${session.id} is not of this store, or is over`);
    }
  }

  #full(key: string): string {
    if (key === "" || key.includes("\0") || !key.isWellFormed()) {
      throw new InvalidError(`store key ${JSON.stringify(key)} is empty or holds a NUL or half a character`);
    }
    return this.#prefix + key;
  }

  #since(prefix: string, seen: Revision | undefined): readonly WatchBatch[] {
    const revision = this.#revision();
    if (seen === undefined || seen > revision || seen < Number(this.#state("forgotten"))) {
      return [{ type: "snapshot", revision, entries: this.#entries(prefix, undefined, -1) }];
    }
    const [low, high] = rangeOf(this.#prefix + prefix);
    const select = "SELECT * FROM changes WHERE revision > ? AND key >= ? AND key < ? ORDER BY revision, key";
    const batches = new Map<Revision, Change[]>();
    for (const row of this.#database.prepare(select).all(seen, low, high)) {
      const at = Number(row.revision);
      const change: Change =
        row.value === null
          ? { type: "delete", key: String(row.key).slice(this.#prefix.length), revision: at }
          : { type: "put", entry: this.#decode(row) };
      batches.set(at, [...(batches.get(at) ?? []), change]);
    }
    return [...batches].map(([at, changes]) => ({ type: "changes", revision: at, changes }));
  }

  /** Waits a moment. True when there is nothing to tell afterwards. */
  async #unchanged(seen: Revision | undefined, ended: AbortSignal): Promise<boolean> {
    await pause(pollMs, ended).catch(() => undefined);
    return ended.aborted || (this.#revision() === seen && !this.#due());
  }

  #due(): boolean {
    const select = "SELECT 1 FROM sessions WHERE expires <= ? OR boot <> ? LIMIT 1";
    return this.#database.prepare(select).get(machineNow(), this.#boot) !== undefined;
  }

  #reap(): void {
    const select = "SELECT id FROM sessions WHERE expires <= ? OR boot <> ?";
    for (const { id } of this.#database.prepare(select).all(machineNow(), this.#boot)) this.#end(String(id));
  }

  #end(id: string): void {
    const next = this.#revision() + 1;
    this.#run("DELETE FROM sessions WHERE id = ?", id);
    this.#run("INSERT INTO changes SELECT ?, key, NULL, NULL FROM entries WHERE session = ?", next, id);
    const { changes } = this.#run("DELETE FROM entries WHERE session = ?", id);
    if (changes !== 0) this.#advance(next);
  }

  #revision(): Revision {
    return Number(this.#state("revision"));
  }

  #state(name: string): unknown {
    return this.#database.prepare("SELECT value FROM state WHERE name = ?").get(name)?.value;
  }

  #run(sql: string, ...values: SQLInputValue[]): { readonly changes: number | bigint } {
    return this.#database.prepare(sql).run(...values);
  }
}

/** Runs `work` as soon as no other process holds the file. @throws {UnavailableError} when that is not in time. */
async function whenFree<T>(
  what: string,
  call: {
    readonly signal: AbortSignal | undefined;
    readonly timeoutMs: number;
    readonly closed?: AbortSignal;
  },
  work: () => T,
): Promise<T> {
  const { signal, timeoutMs, closed } = call;
  const end = performance.now() + timeoutMs;
  const backoff = new Backoff({ firstMs: 2, maxMs: 50 });
  for (;;) {
    signal?.throwIfAborted();
    if (closed?.aborted) throw new UnavailableError(`${what}: the store is closed`, { outcome: "none" });
    try {
      return work();
    } catch (error) {
      const reason = resultCode(error);
      if (reason === undefined) throw error;
      // SQLITE_FULL
      if (reason === 13) throw new ExhaustedError(`${what}: the disk is full`, { cause: error });
      // Neither SQLITE_BUSY nor SQLITE_LOCKED
      if (reason !== 5 && reason !== 6) throw unavailable(what, error);
      if (performance.now() > end) throw unavailable(`${what}: no turn in ${timeoutMs} ms`, error);
    }
    await backoff.wait(signal);
  }
}

function unavailable(what: string, cause: unknown): UnavailableError {
  // A transaction that failed was rolled back.
  return new UnavailableError(`${what}: ${describeError(cause)}`, { outcome: "none", cause });
}

/** The primary result code of an error of SQLite's. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number")
    return undefined;
  return error.errcode & 0xff;
}

function textOf(value: SQLInputValue | undefined): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value);
}

/** Milliseconds since this machine's boot, the same in all its processes. */
function machineNow(): number {
  return Math.floor(Number(process.hrtime.bigint() / 1_000_000n));
}

/** The texts that start with `prefix`: from the first, up to but without the second. */
function rangeOf(prefix: string): readonly [low: string, high: string] {
  const points = [...prefix].map((character) => character.codePointAt(0) ?? 0);
  while (points.at(-1) === 0x10ffff) points.pop();
  const last = points.pop() ?? 0;
  // Surrogates are no characters.
  return [prefix, String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1)];
}
