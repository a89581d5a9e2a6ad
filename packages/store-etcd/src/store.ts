import {
  type CallOptions,
  checkTxn,
  type GetResult,
  type IncarnationOptions,
  type ListOptions,
  type ListResult,
  parseConnectionUrl,
  type Session,
  type Store,
  type StoreCapabilities,
  stepsOf,
  type TxnRequest,
  type TxnResult,
  type WatchBatch,
  type WatchOptions,
  writesOf,
} from "@cocoon-net/core";
import { readCapabilities } from "./capabilities.ts";
import { EtcdConnection } from "./connection.ts";
import { diagnoseOpening } from "./diagnosis.ts";
import { Keyspace } from "./keyspace.ts";
import { readPage } from "./listing.ts";
import {
  type EtcdStoreOptions,
  type ResolvedEtcdOptions,
  resolveEtcdOptions,
  resolveEtcdUrl,
} from "./options.ts";
import { openSession } from "./session.ts";
import { decodeTxn, encodeTxn } from "./transaction.ts";
import { watchPrefix } from "./watch.ts";
import { losesChanges, WatchAudit } from "./watch-audit.ts";

/**
 * Opens etcd by URL (`etcd://user:pass@h1:2379,h2:2379/prefix`, `etcds://…?ca=FILE&cert=FILE&key=FILE`) or by
 * options. `timeoutMs` defaults to 5,000.
 * @throws {UnavailableError} nobody answers there; {@link AuthError} the user may not read under the prefix;
 * {@link InvalidError} the configuration cannot work: wrong scheme, wrong CA, unknown parameter.
 */
export async function openEtcdStore(
  target: string | EtcdStoreOptions,
  options?: CallOptions,
): Promise<Store> {
  const resolved =
    typeof target === "string" ? resolveEtcdUrl(parseConnectionUrl(target)) : resolveEtcdOptions(target);
  return openResolved(resolved, options);
}

export async function openResolved(resolved: ResolvedEtcdOptions, options?: CallOptions): Promise<Store> {
  const connection = new EtcdConnection(resolved);
  const keyspace = new Keyspace(resolved.prefix);
  try {
    const capabilities = await readCapabilities(connection, keyspace, options);
    return new EtcdStore(resolved.label, capabilities, connection, keyspace);
  } catch (error) {
    connection.close();
    options?.signal?.throwIfAborted();
    throw await diagnoseOpening(error, resolved);
  }
}

/** Calls have a deadline of 2,000 ms unless told otherwise. */
class EtcdStore implements Store {
  readonly label: string;
  readonly capabilities: StoreCapabilities;
  readonly #connection: EtcdConnection;
  readonly #keyspace: Keyspace;
  readonly #sessions = new Map<string, Session>();
  readonly #closing = new AbortController();
  #disposed: Promise<void> | undefined;

  constructor(
    label: string,
    capabilities: StoreCapabilities,
    connection: EtcdConnection,
    keyspace: Keyspace,
  ) {
    this.label = label;
    this.capabilities = capabilities;
    this.#connection = connection;
    this.#keyspace = keyspace;
  }

  async get(key: string, options?: CallOptions): Promise<GetResult> {
    const full = this.#keyspace.full(key);
    const answer = await this.#connection.kv(
      {
        what: () => `get ${key}`,
        writes: false,
        send: (client, limit) => client.kv.range({ key: full }, limit),
      },
      options,
    );
    const [kv] = answer.kvs;
    return {
      entry: kv === undefined ? undefined : this.#keyspace.entry(kv),
      revision: Number(answer.header.revision),
    };
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListResult> {
    return readPage(this.#connection, this.#keyspace, prefix, options);
  }

  async txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult> {
    checkTxn(request, this.capabilities);
    const wire = encodeTxn(request, this.#keyspace, (session) => this.#sessions.has(session.id));
    const answer = await this.#connection.kv(
      {
        what: () => describeTxn(request),
        writes: writesOf(request),
        send: (client, limit) => client.kv.txn(wire, limit),
      },
      options,
    );
    return decodeTxn(answer, request, this.#keyspace);
  }

  watch(prefix: string, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const { signal, fromRevision } = options;
    const ended =
      signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    const audit = losesChanges(this.capabilities.server.replace(/^etcd /, "")) ? new WatchAudit() : undefined;
    return watchPrefix({
      ...{ connection: this.#connection, keyspace: this.#keyspace, prefix, fromRevision, ended, audit },
    });
  }

  async session(ttlMs: number, options?: CallOptions): Promise<Session> {
    const session = await openSession(this.#connection, ttlMs, options);
    this.#sessions.set(session.id, session);
    session.signal.addEventListener("abort", () => this.#sessions.delete(session.id), { once: true });
    if (this.#closing.signal.aborted) await session[Symbol.asyncDispose]();
    return session;
  }

  async incarnation(options?: IncarnationOptions): Promise<string> {
    options?.signal?.throwIfAborted();
    // Each answer names its cluster; the first came when the store was opened.
    if (!options?.fromLastAnswer || this.#closing.signal.aborted) {
      // One key: over a range etcd counts every key in it, 160 ms at 700,000 leases.
      const { key } = this.#keyspace.range("");
      await this.#connection.probe({ key }, options);
    }
    return this.#connection.incarnation;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#sessions.values()].map((session) => session[Symbol.asyncDispose]()));
    this.#connection.close();
  }
}

/** `txn on subnets/n1, slots/172.20.1.0-24, …`: what a message needs to be traced to its cause. */
function describeTxn(request: TxnRequest): string {
  const steps = stepsOf(request);
  const keys = new Set([
    ...steps.flatMap(({ then = [] }) =>
      then.map((operation) =>
        "put" in operation ? operation.put : "delete" in operation ? operation.delete : operation.get,
      ),
    ),
    ...steps.flatMap(({ if: compares = [] }) => compares.map(({ key }) => key)),
  ]);
  const shown = [...keys].slice(0, 3).join(", ");
  return `txn on ${shown}${keys.size > 3 ? ", …" : ""}`;
}
