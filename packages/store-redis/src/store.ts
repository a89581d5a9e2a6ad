import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  type CallOptions,
  DisposeStack,
  type GetResult,
  InvalidError,
  KeptSession,
  type ListOptions,
  type ListResult,
  parseConnectionUrl,
  type Session,
  type Store,
  type StoreCapabilities,
  serverTtlMs,
  stepsOf,
  type TxnRequest,
  type TxnResult,
  type WatchBatch,
  type WatchOptions,
  writesOf,
} from "@cocoon-net/core";
import { readIncarnation, readTraits, type Seen, type ServerTraits } from "./capabilities.ts";
import { type Call, Connection, type Reply } from "./connection.ts";
import { compareKeys } from "./layout.ts";
import { optionsFromUrl, type RedisStoreOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { Pulse } from "./pulse.ts";
import { decodeEntries, decodeEntry, encodeTxn, readsOf, sessionOver } from "./request.ts";
import { list } from "./scripts/list.ts";
import { status } from "./scripts/prelude.ts";
import { endSession, openSession, renewSession } from "./scripts/sessions.ts";
import { txn, txnWithoutPut } from "./scripts/txn.ts";
import { watch } from "./watch.ts";

const defaultTimeoutMs = 2_000;
const openTimeoutMs = 5_000;
/** A server that owes an answer for so long is given up, and the connection made anew. */
const silenceMs = 3_000;
/** Most entries of one page, whatever is asked for: the server does nothing else meanwhile. */
const longestPage = 5_000;

/**
 * Connects and reads `capabilities`. Opening has 5,000 ms, each call 2,000 ms unless told otherwise.
 * @throws {UnavailableError} {AuthError}
 * @throws {InvalidError} also when the server evicts keys, is older than Redis 7.0, or the prefix is in use.
 */
export async function openRedisStore(
  target: string | RedisStoreOptions,
  call: CallOptions = {},
): Promise<Store> {
  const given =
    typeof target === "string"
      ? optionsFromUrl(parseConnectionUrl(target, { readSecretFile: (path) => readFileSync(path, "utf8") }))
      : target;
  const options = resolveOptions(given);
  await using opened = new DisposeStack();
  const connection = opened.use(new Connection(options, { silenceMs, lasting: true }));
  const timeoutMs = call.timeoutMs ?? openTimeoutMs;
  const end = performance.now() + timeoutMs;
  await connection.open(timeoutMs, call.signal);
  const traits = await readTraits(connection, call.signal, end);
  opened.move();
  return new RedisStore(options, connection, traits);
}

class RedisStore implements Store {
  readonly label: string;
  readonly capabilities: StoreCapabilities;
  readonly #connection: Connection;
  readonly #pulse: Pulse;
  /** How many replicas must confirm a transaction that makes keys. */
  readonly #wait: number;
  readonly #closed = new AbortController();
  readonly #sessions = new Set<Session>();
  #disposed: Promise<void> | undefined;
  #seen: Seen = { era: "", revision: 0 };

  constructor(options: ResolvedOptions, connection: Connection, traits: ServerTraits) {
    this.label = options.label;
    this.capabilities = traits.capabilities;
    this.#wait = traits.wait;
    this.#connection = connection;
    this.#pulse = new Pulse(options);
    // Where the calls get through again, watches do too.
    connection.onReady(() => this.#pulse.probe());
  }

  async get(key: string, options?: CallOptions): Promise<GetResult> {
    const { reads, revision } = await this.#txn(`get ${key}`, { then: [{ get: key }] }, options);
    return { entry: reads[0], revision };
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListResult> {
    const { limit = 1_000, after = "" } = options;
    if (!Number.isInteger(limit) || limit < 1) {
      throw new InvalidError(`list limit ${limit} is not a positive integer`);
    }
    const start = after !== "" && compareKeys(after, prefix) > 0 ? after : "";
    const reply = await this.#connection.run(
      list,
      [prefix, start, Math.min(limit, longestPage)],
      call(`list ${prefix}`, false, options),
    );
    const [, revision, , more, pieces] = reply;
    this.#see(Number(revision));
    const entries = (pieces as Buffer[]).flatMap(decodeEntries);
    return { entries, revision: Number(revision), next: more === 1 ? entries.at(-1)?.key : undefined };
  }

  async txn(request: TxnRequest, options?: CallOptions): Promise<TxnResult> {
    return this.#txn("transaction", request, options);
  }

  watch(prefix: string, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const ended = AbortSignal.any([this.#closed.signal, ...(options.signal ? [options.signal] : [])]);
    return watch(this.#pulse, prefix, options.fromRevision, ended);
  }

  async session(ttlMs: number, options?: CallOptions): Promise<Session> {
    const ttl = Math.ceil(serverTtlMs(ttlMs));
    const id = randomUUID();
    const sentAt = performance.now();
    await this.#connection.run(openSession, [id, ttl], call("open a session", true, options));
    const session = new KeptSession({
      ...{ id, ttlMs, sentAt, where: this.label },
      renew: async (timeoutMs) => {
        const [answer] = await this.#connection.run(
          renewSession,
          [id, ttl],
          call("keep a session alive", true, { timeoutMs }),
        );
        return answer === status.done;
      },
      end: async () => {
        await this.#connection.run(endSession, [id], call("end a session", true));
      },
    });
    this.#sessions.add(session);
    session.signal.addEventListener("abort", () => this.#sessions.delete(session), { once: true });
    // Closed while it was being opened: nobody else would end it.
    if (this.#closed.signal.aborted) await session[Symbol.asyncDispose]();
    return session;
  }

  async incarnation(options?: CallOptions): Promise<string> {
    const described = call("read the incarnation", false, options);
    const { incarnation, seen } = await readIncarnation(this.#connection, this.#seen, described);
    this.#seen = seen.era === this.#seen.era && seen.revision < this.#seen.revision ? this.#seen : seen;
    return incarnation;
  }

  /** Ends its sessions at the server, within the deadline of a call. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#closed.abort();
    this.#pulse[Symbol.dispose]();
    await Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]()));
    await this.#connection[Symbol.asyncDispose]();
  }

  async #txn(what: string, request: TxnRequest, options: CallOptions | undefined): Promise<TxnResult> {
    const args = encodeTxn(request);
    let putting = false;
    const steps = stepsOf(request);
    for (const operation of steps.flatMap(({ then = [] }) => then)) {
      if (!("put" in operation)) continue;
      putting = true;
      const { put, session } = operation;
      if (session === undefined || this.#sessions.has(session)) continue;
      throw new InvalidError(`${put} is to be tied to session ${session.id}, which is not of this store`);
    }
    const described: Call = {
      ...call(what, writesOf(request), options),
      replicas: (reply: Reply) => (Number(reply[4] ?? 0) > 0 ? this.#wait : 0),
    };
    const reply = await this.#connection.run(putting ? txn : txnWithoutPut, args, described);
    if (reply[0] === status.gone) throw sessionOver(String(reply[1]), String(reply[2]));
    const [, ran, revision, reads] = reply;
    this.#see(Number(revision));
    const step = Number(ran);
    const keys = readsOf(steps[step]?.then);
    const fields = reads as readonly (Buffer | null)[];
    return {
      succeeded: step < steps.length - 1,
      step,
      revision: Number(revision),
      reads: keys.map((key, at) => {
        const field = fields[at] ?? null;
        return field === null ? undefined : decodeEntry(key, String(field));
      }),
    };
  }

  #see(revision: number): void {
    if (revision > this.#seen.revision) this.#seen = { ...this.#seen, revision };
  }
}

function call(what: string, writes: boolean, options: CallOptions = {}): Call {
  return { what, writes, timeoutMs: options.timeoutMs ?? defaultTimeoutMs, signal: options.signal };
}
