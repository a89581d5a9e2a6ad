import type { ConnectionUrl } from "./connection-url.ts";

/**
 * The Store port: a small key–value contract with revisions. The rules of the cluster are written once,
 * on top of it, and hold on every backend.
 *
 * Keys are relative (`subnets/n1`); the backend puts its configured prefix in front of them. They are not
 * empty and hold no NUL. Values are text (JSON by convention). Text that has no UTF-8 (half a surrogate pair)
 * is refused in both. Every method has a deadline even when none is given, also on a server that is stopped or
 * black-holed.
 *
 * Errors of every method: {@link UnavailableError} (its `outcome` says whether a write may have happened),
 * {@link AuthError}, {@link InvalidError} (limits exceeded), {@link ExhaustedError} (the server is full),
 * the signal's reason when aborted.
 *
 * Disposing, once or several times, ends everything within a bounded time, also when the server is out of
 * reach: calls that wait reject with UnavailableError, watches end, and sessions are over. Their signals abort at
 * once, and the server is asked to end them, so that their keys are gone when the disposal resolves; out of
 * reach, they end by the server's clock. A process that has nothing else to do then exits. Calls on a closed
 * store reject with an UnavailableError of outcome `none`, and a watch of it ends without a batch.
 */
export interface Store extends AsyncDisposable {
  /** The URL it was opened by, without secrets. For messages. */
  readonly label: string;
  /** What this server gives, as read from it when the store was opened. */
  readonly capabilities: StoreCapabilities;

  /** One key. `entry` is undefined when absent. */
  get(key: string, options?: CallOptions): Promise<GetResult>;

  /** Entries whose key starts with `prefix`, in byte order of their keys, one page at a time. */
  list(prefix: string, options?: ListOptions): Promise<ListResult>;

  /** Compares, then applies one branch, atomically: the first whose comparisons hold. */
  txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult>;

  /**
   * Changes under `prefix`, without a gap and without a repeat across reconnects.
   *
   * With `fromRevision` the first batch holds what changed **after** that revision. Without it the first
   * batch is a `snapshot`. When the history needed to go on is gone (compacted, lost by the server, or not
   * reached by it), a `snapshot` is yielded instead of silence. Ends when `signal` aborts or the store is
   * disposed; throws only what retrying cannot mend (auth, invalid).
   */
  watch(prefix: string, options?: WatchOptions): AsyncIterable<WatchBatch>;

  /** Opens a liveness handle: keys put with it vanish once the server has not heard from us for `ttlMs`. */
  session(ttlMs: number, options?: CallOptions): Promise<Session>;

  /**
   * A value that changes when the server may have lost acknowledged writes: a failover, a restart without
   * persistence, an emptied database. Unchanged over ordinary reconnects, and the same for every handle, unless one of
   * them has seen a loss that the server itself does not tell of.
   */
  incarnation(options?: IncarnationOptions): Promise<string>;
}

/**
 * Grows with every transaction that changes something; all its writes share one. Putting the value that is there
 * already is a change, deleting an absent key is none. The first one is above 0. Below 2^53.
 */
export type Revision = number;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds; each backend documents its default (2,000 unless said otherwise). */
  readonly timeoutMs?: number | undefined;
}

export interface IncarnationOptions extends CallOptions {
  /**
   * What the newest answer that this handle has had says of its server is enough. A backend whose answers do not say it
   * asks the server.
   */
  readonly fromLastAnswer?: boolean;
}

export interface ListOptions extends CallOptions {
  /** Most entries in the answer; default 1,000. */
  readonly limit?: number;
  /** Start after this key: the `next` of the page before. */
  readonly after?: string;
  /**
   * Read at this revision, one that the store has answered with, where `capabilities.pinnedReads` is true;
   * otherwise it is ignored. One that the server has compacted away, or has not reached, is an
   * {@link InvalidError}: begin the listing anew, without it.
   */
  readonly revision?: Revision;
}

export interface WatchOptions {
  readonly fromRevision?: Revision | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Entry {
  readonly key: string;
  readonly value: string;
  /** Revision of the write that made the key. Deleting and putting again makes a new one. */
  readonly createRevision: Revision;
  /** Revision of the newest write. */
  readonly modRevision: Revision;
}

export interface GetResult {
  readonly entry: Entry | undefined;
  readonly revision: Revision;
}

export interface ListResult {
  readonly entries: readonly Entry[];
  /** The revision at which this page is true. */
  readonly revision: Revision;
  /** Set when there is more: pass it as `after`. */
  readonly next: string | undefined;
}

/**
 * All must hold for `then` to run; with none, `then` always runs. An absent key has no revision and no value: of
 * all comparisons only `exists: false` holds for it, and a revision of 0 never holds.
 */
export type Compare =
  | { readonly key: string; readonly exists: boolean }
  | { readonly key: string; readonly createRevision: Revision }
  | { readonly key: string; readonly modRevision: Revision }
  | { readonly key: string; readonly value: string };

/**
 * Puts and deletes of one branch must name different keys. Deleting an absent key is no error. A key hangs on the
 * `session` of its newest put only, and on none when that names none. A session that is over, for its holder or
 * for the server, or that another handle has opened, is an {@link InvalidError} and nothing of the transaction is
 * applied.
 */
export type Operation =
  | { readonly put: string; readonly value: string; readonly session?: Session }
  | { readonly delete: string }
  | { readonly get: string };

export interface TxnStep {
  readonly if?: readonly Compare[];
  readonly then?: readonly Operation[];
}

export interface TxnRequest extends TxnStep {
  /** Tried in turn where `if` does not hold: of the first whose comparisons do, `then` runs. */
  readonly or?: readonly TxnStep[];
  /** Runs where none holds. */
  readonly else?: readonly Operation[];
}

export interface TxnResult {
  /** Whether a `then` ran. */
  readonly succeeded: boolean;
  /** Which branch ran: 0 is the first `then`, 1 and on are those of `or`, and after them comes `else`. */
  readonly step: number;
  /** The store's revision after the transaction. */
  readonly revision: Revision;
  /** One item for each `get` of the branch that ran, in order; it sees the state before that branch's writes. */
  readonly reads: readonly (Entry | undefined)[];
}

/**
 * Each batch lies wholly after the one before it. Its `revision` is a place to go on from: a watch from it continues
 * there. After the server has lost data, a snapshot may have a lower one than what came before.
 */
export type WatchBatch =
  /**
   * One or more changes in the order of their revisions, of which the batch has the newest. The changes of one
   * transaction come in one batch.
   */
  | { readonly type: "changes"; readonly revision: Revision; readonly changes: readonly Change[] }
  /** The whole prefix as it is at `revision`: replaces everything the watcher knew. */
  | { readonly type: "snapshot"; readonly revision: Revision; readonly entries: readonly Entry[] };

export type Change =
  | { readonly type: "put"; readonly entry: Entry }
  | { readonly type: "delete"; readonly key: string; readonly revision: Revision };

/** Ends by the server's clock. Disposing it ends it at once and removes its keys. */
export interface Session extends AsyncDisposable {
  readonly id: string;
  readonly ttlMs: number;
  /**
   * Aborts, on this process's monotonic clock, before the server can have expired the session, or when it
   * is disposed. What depends on the session must stop then. Never un-aborts: open a new session.
   */
  readonly signal: AbortSignal;
}

export interface StoreCapabilities {
  /** Name and version of the server, as it says. */
  readonly server: string;
  /** Reads see every write acknowledged before, from any client. */
  readonly linearizable: boolean;
  /** `ListOptions.revision` is honoured, so several pages show one moment. */
  readonly pinnedReads: boolean;
  /** In the operator's words, what an acknowledged write survives. */
  readonly durability: string;
  /** False where an acknowledged write may be lost and nothing tells: automatic reclaim is refused then. */
  readonly trustworthy: boolean;
  /**
   * Most compares, and most operations of one branch, in a transaction; with `or` the most of each step, added up.
   * 64 or more.
   */
  readonly maxOperations: number;
  /** Longest value, in bytes. */
  readonly maxValueBytes: number;
}

/** What a store package exports as default: how its URL schemes are opened. */
export interface StoreDriver {
  readonly schemes: readonly string[];
  /** Connects, reads `capabilities`, and fails with one clear error when the server cannot be used. */
  open(url: ConnectionUrl, options?: CallOptions): Promise<Store>;
}
