import type {
  CallOptions,
  GetResult,
  ListOptions,
  ListResult,
  Session,
  Store,
  StoreCapabilities,
  TxnRequest,
  TxnResult,
  WatchBatch,
  WatchOptions,
} from "@cocoon-net/core";

/** Called in place of a transaction; `forward` sends it on. */
export type TxnInterceptor = (request: TxnRequest, forward: () => Promise<TxnResult>) => Promise<TxnResult>;

/** Called in place of a watch; `forward` begins it. */
export type WatchInterceptor = (
  prefix: string,
  forward: () => AsyncIterable<WatchBatch>,
) => AsyncIterable<WatchBatch>;

/** A store handle whose transactions and watches a test can meddle with. */
export class InterposedStore implements Store {
  readonly #inner: Store;
  capabilities: StoreCapabilities;
  intercept: TxnInterceptor = (_, forward) => forward();
  interceptWatch: WatchInterceptor = (_, forward) => forward();
  /** Set it to another text, and the server seems to be another one, that may have lost writes. */
  server = "";

  constructor(inner: Store) {
    this.#inner = inner;
    this.capabilities = inner.capabilities;
  }

  get label(): string {
    return this.#inner.label;
  }

  get(key: string, options?: CallOptions): Promise<GetResult> {
    return this.#inner.get(key, options);
  }

  list(prefix: string, options?: ListOptions): Promise<ListResult> {
    return this.#inner.list(prefix, options);
  }

  txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult> {
    return this.intercept(request, () => this.#inner.txn(request, options));
  }

  watch(prefix: string, options?: WatchOptions): AsyncIterable<WatchBatch> {
    return this.interceptWatch(prefix, () => this.#inner.watch(prefix, options));
  }

  session(ttlMs: number, options?: CallOptions): Promise<Session> {
    return this.#inner.session(ttlMs, options);
  }

  async incarnation(options?: CallOptions): Promise<string> {
    return (await this.#inner.incarnation(options)) + this.server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}

/** Whether the transaction changes something other than who leads and the leader's proof of it. */
export function changesCluster(request: TxnRequest): boolean {
  return (request.then ?? []).some((operation) => {
    if ("get" in operation) return false;
    const key = "put" in operation ? operation.put : operation.delete;
    return key !== "leader" && key !== "controller";
  });
}
