import { Backoff } from "@cocoon-net/core";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { withDeadline } from "./deadline.ts";
import { storeError } from "./errors.ts";
import { layoutOf } from "./layout.ts";
import type { ResolvedOptions } from "./options.ts";
import { type Script, status } from "./scripts/prelude.ts";

export interface Call {
  /** For messages: `get subnets/n1`. */
  readonly what: string;
  /** Whether the caller must know about a write that may have happened. */
  readonly writes: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * One connection, which comes back by itself. ioredis is set up to do nothing behind our back: it neither
 * queues commands while disconnected nor sends them again, both of which would run a write twice or long after
 * its caller gave up. A call waits for the connection here, within its deadline, and is sent once.
 */
export class Connection implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #keys: readonly string[];
  readonly #client: Redis | Cluster;
  readonly #closed = new AbortController();
  /** Scripts that the server has had from us, and probably still knows. */
  readonly #loaded = new Set<Script>();
  #ready: PromiseWithResolvers<void> | undefined;
  /** Why it is not connected, as far as it is known. */
  #lastError: Error | undefined;

  /** `silenceMs`: a server that owes an answer and sends nothing for so long is given up: the socket is closed. */
  constructor(options: ResolvedOptions, silenceMs: number) {
    this.#options = options;
    this.#keys = layoutOf(options.prefix);
    this.#client = createClient(options, silenceMs);
    const onError = (error: Error) => {
      this.#lastError = error;
    };
    this.#client.on("ready", () => {
      this.#lastError = undefined;
      this.#ready?.resolve();
      this.#ready = undefined;
    });
    // Without a listener ioredis prints to the console.
    for (const event of ["error", "sentinelError", "node error"]) this.#client.on(event, onError);
  }

  get options(): ResolvedOptions {
    return this.#options;
  }

  /** Connects for the first time; unlike later calls it fails at once, not at the deadline. */
  async open(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const what = `connect to ${this.#options.label}`;
    try {
      await withDeadline(timeoutMs, [signal, this.#closed.signal], async (over) => {
        const failed = Promise.withResolvers<never>();
        this.#client.once("error", (error) => failed.reject(error));
        this.#client.once("close", () =>
          failed.reject(this.#lastError ?? new Error("the server closed the connection")),
        );
        await Promise.race([this.#connected(over), failed.promise]);
      });
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      const cause = rootCause(this.#lastError ?? error);
      throw storeError(cause, { what, outcome: "none", hint: handshakeHint(cause, this.#options) });
    }
  }

  /** Runs one script; answers its result after the status. */
  async run(script: Script, args: readonly (string | number)[], call: Call): Promise<Reply> {
    const run = async (over: AbortSignal, sending: () => void): Promise<Reply> => {
      for (;;) {
        const reply = await this.#evaluate(script, [this.#options.history, ...args], over, sending);
        if (reply[0] !== status.again) return reply;
      }
    };
    return this.#carry(call, run) as Promise<Reply>;
  }

  /** Runs one plain command. */
  async command(name: string, args: readonly (string | number)[], call: Call): Promise<unknown> {
    return this.#carry(call, async (over, sending) => {
      await this.#connected(over);
      sending();
      return this.#client.call(name, [...args]);
    });
  }

  /** The key of that place in the layout. */
  key(index: number): string {
    return this.#keys[index] ?? "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort(new Error("the store is closed"));
    this.#client.disconnect();
  }

  async #carry(
    call: Call,
    work: (over: AbortSignal, sending: () => void) => Promise<unknown>,
  ): Promise<unknown> {
    let sent = false;
    try {
      return await withDeadline(call.timeoutMs, [call.signal, this.#closed.signal], (over) =>
        work(over, () => {
          sent = true;
        }),
      );
    } catch (error) {
      if (call.signal?.aborted && error === call.signal.reason) throw error;
      const outcome = sent && call.writes ? "unknown" : "none";
      // Never sent: what keeps the connection away says more than the deadline that passed meanwhile.
      const away = sent || this.#closed.signal.aborted ? undefined : this.#lastError;
      const cause = rootCause(away ?? error);
      throw storeError(cause, { what: `${call.what} on ${this.#options.label}`, outcome });
    }
  }

  async #evaluate(
    script: Script,
    args: readonly (string | number)[],
    over: AbortSignal,
    sending: () => void,
  ): Promise<Reply> {
    await this.#connected(over);
    sending();
    const rest = [this.#keys.length, ...this.#keys, ...args];
    if (this.#loaded.has(script)) {
      try {
        return (await this.#client.call("evalsha", [script.sha1, ...rest])) as Reply;
      } catch (error) {
        // The one refusal that is repeated: the script has not run.
        if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
        over.throwIfAborted();
      }
    }
    const reply = (await this.#client.call("eval", [script.text, ...rest])) as Reply;
    this.#loaded.add(script);
    return reply;
  }

  async #connected(over: AbortSignal): Promise<void> {
    for (;;) {
      over.throwIfAborted();
      if (this.#client.status === "ready") return;
      if (this.#client.status === "wait") this.#client.connect().catch(() => {});
      this.#ready ??= Promise.withResolvers<void>();
      await this.#ready.promise;
    }
  }
}

/** What scripts answer: a status, then what each says in its header. */
export type Reply = readonly [number, ...(readonly unknown[])];

function createClient(options: ResolvedOptions, silenceMs: number): Redis | Cluster {
  const { topology, hosts, username, password, tls } = options;
  const common = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls: { ...tls } }),
    lazyConnect: true,
    protocol: 2 as const,
    connectionName: "cocoon-net",
    disableClientInfo: true,
    connectTimeout: 2_000,
    socketTimeout: silenceMs,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // A primary that was demoted while connected: find the new one. The command is not sent again.
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
  } satisfies RedisOptions;
  const backoff = new Backoff({ maxMs: 1_000 });
  const retryStrategy = (attempt: number) => {
    if (attempt === 1) backoff.reset();
    return Math.round(backoff.next());
  };
  if (topology === "cluster") {
    return new Cluster([...hosts], {
      lazyConnect: true,
      enableOfflineQueue: false,
      // Would send commands again whose connection was lost after they were sent.
      retryDelayOnFailover: 0,
      clusterRetryStrategy: retryStrategy,
      redisOptions: common,
    });
  }
  if (topology === "sentinel") {
    return new Redis({
      ...common,
      db: options.db,
      retryStrategy,
      sentinels: [...hosts],
      name: options.sentinelName ?? "",
      ...(options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername }),
      ...(options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword }),
      ...(tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: { ...tls } }),
      failoverDetector: true,
    });
  }
  return new Redis({ ...common, ...hosts[0], db: options.db, retryStrategy });
}

/** ioredis wraps what the nodes of a cluster said. */
function rootCause(error: unknown): unknown {
  return error instanceof Error && "lastNodeError" in error ? (error.lastNodeError ?? error) : error;
}

/** A server that is spoken to in the wrong way closes the connection, or waits for what it understands. */
function handshakeHint(error: unknown, { tls }: ResolvedOptions): string | undefined {
  if (!/closed the connection|ECONNRESET|ETIMEDOUT|Socket timeout/.test(String(error))) return undefined;
  return tls === undefined
    ? "if the server speaks TLS there, use rediss:// or tls=true"
    : "if the server does not speak TLS there, use redis:// or leave out tls=true";
}
