import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  type CallOptions,
  DisposeStack,
  type GetResult,
  type IncarnationOptions,
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
  type TxnStep,
  type WatchBatch,
  type WatchOptions,
  writesOf,
} from "@cocoon-net/core";
import { readIncarnation, readTraits, type ServerTraits, type Standing } from "./capabilities.ts";
import { type Call, Connection, type Reply } from "./connection.ts";
import { optionsFromUrl, type RedisStoreOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { readPage } from "./page.ts";
import { Pulse } from "./pulse.ts";
import { decodeRead, encodeTxn, readsOf, sessionOver } from "./request.ts";
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
  /** The newest place in history that it has seen. */
  #seen: Pick<Standing, "era" | "revision"> = { era: "", revision: 0 };
  /** What the newest answer says of its server. */
  #last: Standing | undefined;

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
    const described = call(`list ${prefix}`, false, options);
    const { entries, position, next } = await readPage(
      this.#connection,
      prefix,
      after,
      Math.min(limit, longestPage),
      described,
    );
    this.#see(position.revision);
    return { entries, revision: position.revision, next };
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

  async incarnation(options: IncarnationOptions = {}): Promise<string> {
    // An answer from behind what was seen before is for the server to look into.
    const isBehind = this.#last !== undefined && this.#last.revision < this.#seen.revision;
    if (options.fromLastAnswer && this.#last !== undefined && !isBehind) return this.#last.incarnation;
    const described = call("read the incarnation", false, options);
    const answer = await readIncarnation(this.#connection, this.#seen, described);
    this.#learn(answer);
    return answer.incarnation;
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
    const steps = stepsOf(request);
    const described: Call = {
      ...call(what, writesOf(request), options),
      replicas: (reply: Reply) => (reply[6] === 1 ? this.#wait : 0),
    };
    const reply = await this.#connection.run(this.#puts(steps) ? txn : txnWithoutPut, args, described);
    if (reply[0] === status.gone) throw sessionOver(String(reply[1]), request);
    const [, step, revision, incarnation, era, reads] = reply as readonly [
      ...[done: number, step: number, revision: number, incarnation: Buffer, era: Buffer],
      reads: readonly (Buffer | null)[],
    ];
    this.#learn({ incarnation: String(incarnation), era: String(era), revision });
    return {
      succeeded: step < steps.length - 1,
      step,
      revision,
      reads: readsOf(steps[step]?.then).map((key, at) =>
        decodeRead(key, reads[2 * at] ?? null, reads[2 * at + 1] ?? null),
      ),
    };
  }

  /** Whether any step puts something. @throws {InvalidError} when that is to hang on a session of another store */
  #puts(steps: readonly TxnStep[]): boolean {
    let putting = false;
    for (const { then = [] } of steps) {
      for (const operation of then) {
        if (!("put" in operation)) continue;
        putting = true;
        const { put, session } = operation;
        if (session === undefined || this.#sessions.has(session)) continue;
        throw new InvalidError(`${put} is to be tied to session ${session.id}, which is not of this store`);
      }
    }
    return putting;
  }

  #learn(answer: Standing): void {
    this.#last = answer;
    const isNewer = answer.era !== this.#seen.era || answer.revision > this.#seen.revision;
    if (isNewer) this.#seen = answer;
  }

  #see(revision: number): void {
    if (revision > this.#seen.revision) this.#seen = { ...this.#seen, revision };
  }
}

function call(what: string, writes: boolean, options: CallOptions = {}): Call {
  return { what, writes, timeoutMs: options.timeoutMs ?? defaultTimeoutMs, signal: options.signal };
}
