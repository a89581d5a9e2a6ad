import type { Redis } from "ioredis";
import { type ClientTraits, createClient } from "./client.ts";
import { type End, withDeadline } from "./deadline.ts";
import { storeError, UnconfirmedError } from "./errors.ts";
import { channelStem, layoutOf } from "./layout.ts";
import type { ResolvedOptions } from "./options.ts";
import { type Script, status } from "./scripts/prelude.ts";

export interface Call {
  /** For messages: `get subnets/n1`. */
  readonly what: string;
  /** Whether the caller must know about a write that may have happened. */
  readonly writes: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** How many replicas must have what the script wrote before it counts as done; default none. */
  readonly replicas?: (reply: Reply) => number;
}

/** What scripts answer: a status, then what each says in its header, text as a Buffer. */
export type Reply = readonly [number, ...(readonly unknown[])];

/** Sends a command, once it can be: at once, or never. */
type Send = <T>(command: () => Promise<T>) => Promise<T>;

/** Time for a server that takes the connection to greet. */
const greetingMs = 1_000;
/** Time for replicas to confirm a write. The server does nothing else for this connection meanwhile. */
const replicationMs = 500;

/**
 * One connection to the primary. A call waits for it here, within its deadline, and is sent once: nothing is
 * queued or sent again by ioredis, see {@link createClient}.
 */
export class Connection implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #keys: readonly string[];
  readonly #stem: string;
  /** What every script is given. */
  readonly #common: readonly (string | number)[];
  readonly #client: Redis;
  readonly #over = new AbortController();
  /** Of all calls on their way. */
  readonly #ends = new Set<End>();
  /** Scripts that the server has had from us, and probably still knows. */
  readonly #loaded = new Set<Script>();
  #ready: PromiseWithResolvers<void> | undefined;
  /** Counts its lives: what was written in one cannot be asked about in the next. */
  #life = 0;
  /** Why it is not connected, as far as it is known. */
  #lastError: Error | undefined;
  /** Questions to the replicas: the one that was sent, and the one for those who came too late for it. */
  #asked: Promise<unknown> = Promise.resolve();
  #nextAsked: Promise<number> | undefined;

  constructor(options: ResolvedOptions, traits: ClientTraits) {
    this.#options = options;
    this.#keys = layoutOf(options.prefix);
    this.#stem = channelStem(options.prefix, options.db);
    this.#common = [this.#keys.length, ...this.#keys, options.history, this.#stem];
    this.#client = createClient(options, traits);
    const client = this.#client;
    let greeting: NodeJS.Timeout | undefined;
    client.on("connect", () => {
      greeting = setTimeout(() => {
        this.#lastError = new Error(`the server did not greet within ${greetingMs} ms`);
        client.disconnect(traits.lasting);
      }, greetingMs);
    });
    client.on("ready", () => {
      clearTimeout(greeting);
      this.#lastError = undefined;
      this.#ready?.resolve();
      this.#ready = undefined;
    });
    client.on("close", () => {
      clearTimeout(greeting);
      this.#life += 1;
    });
    client.on("end", () => {
      if (!traits.lasting) this.#end(this.#lastError ?? new Error("the connection was lost"));
      if (this.over.aborted) return;
      // ioredis gives up when it is to look for another primary, for example by word of a sentinel, just while it
      // looks for one.
      const again = setTimeout(() => client.connect().catch(() => {}), 100);
      this.over.addEventListener("abort", () => clearTimeout(again), { once: true });
    });
    // Without a listener ioredis prints to the console.
    for (const event of ["error", "sentinelError"]) {
      client.on(event, (error: Error) => {
        this.#lastError = error;
      });
    }
  }

  get options(): ResolvedOptions {
    return this.#options;
  }

  /** Aborts when it is closed, or was lost and does not come back. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Connects for the first time; unlike later calls it fails at once, not at the deadline. */
  async open(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const what = `connect to ${this.#options.label}`;
    try {
      await withDeadline(
        timeoutMs,
        signal,
        async (check) => {
          const failed = Promise.withResolvers<never>();
          this.#client.once("error", (error) => failed.reject(error));
          this.#client.once("close", () =>
            failed.reject(this.#lastError ?? new Error("the server closed the connection")),
          );
          await Promise.race([this.#becomesUsable(check), failed.promise]);
        },
        this.#ends,
      );
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      const cause = this.#lastError ?? error;
      const { topology } = this.#options;
      throw storeError(cause, { what, outcome: "none", topology, hint: handshakeHint(cause, this.#options) });
    }
  }

  /** Calls `onReady` whenever it is connected, also anew. */
  onReady(onReady: () => void): void {
    this.#client.on("ready", onReady);
  }

  /** Calls `onMessage` with what is sent to the channels of prefixes, and `onGone` when the server stops sending. */
  listen(onMessage: (prefix: string, message: string) => void, onGone: () => void): void {
    const stem = this.#stem;
    this.#client.on("smessage", (channel: string, message: string) => {
      if (channel.startsWith(stem)) onMessage(channel.slice(stem.length), message);
    });
    this.#client.on("moved", onGone);
  }

  /** Starts or stops listening to the channel of a prefix. */
  async setListening(prefix: string, on: boolean, call: Call): Promise<void> {
    await this.command(on ? "ssubscribe" : "sunsubscribe", [this.#stem + prefix], call);
  }

  /** Runs one script; answers its result after the status. */
  async run(script: Script, args: readonly (string | number | Buffer)[], call: Call): Promise<Reply> {
    return this.#carry(call, async (send) => {
      for (;;) {
        const reply = await this.#evaluate(script, args, send);
        if (reply[0] === status.again) continue;
        const replicas = call.replicas?.(reply) ?? 0;
        if (replicas > 0) await this.#replicated(replicas);
        return reply;
      }
    });
  }

  /** Runs one plain command. */
  async command(name: string, args: readonly (string | number | Buffer)[], call: Call): Promise<unknown> {
    return this.#carry(call, (send) => send(() => this.#client.call(name, [...args])));
  }

  /** The key of that place in the layout. */
  key(index: number): string {
    return this.#keys[index] ?? "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.over.aborted) return;
    this.#end(new Error("the store is closed"));
    this.#client.disconnect();
  }

  #end(reason: unknown): void {
    this.#over.abort(reason);
    for (const end of this.#ends) end(reason);
  }

  async #carry<T>(call: Call, work: (send: Send) => Promise<T>): Promise<T> {
    let sent = false;
    const carried = (check: () => void) =>
      work(async (command) => {
        check();
        if (!this.#usable) await this.#becomesUsable(check);
        sent = true;
        this.#gather();
        return command();
      });
    try {
      return await withDeadline(call.timeoutMs, call.signal, carried, this.#ends);
    } catch (error) {
      if (call.signal?.aborted && error === call.signal.reason) throw error;
      const outcome = sent && call.writes ? "unknown" : "none";
      // Never sent: what keeps the connection away says more than the deadline that passed meanwhile.
      const cause = sent || this.over.aborted ? error : (this.#lastError ?? error);
      const { label, topology } = this.#options;
      throw storeError(cause, { what: `${call.what} on ${label}`, outcome, topology });
    }
  }

  async #evaluate(script: Script, args: readonly (string | number | Buffer)[], send: Send): Promise<Reply> {
    const evaluate = (name: string, what: string) =>
      send(() => this.#client.callBuffer(name, [what, ...this.#common, ...args])) as Promise<Reply>;
    if (this.#loaded.has(script)) {
      try {
        return await evaluate("evalsha", script.sha1);
      } catch (error) {
        // The one refusal that is repeated: the script has not run.
        if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      }
    }
    const reply = await evaluate("eval", script.text);
    this.#loaded.add(script);
    return reply;
  }

  /**
   * Resolves once so many replicas have all that this connection has written. One question covers all that was
   * answered before it was sent, so that those who come while another one is on its way share the next.
   */
  async #replicated(replicas: number): Promise<void> {
    const life = this.#life;
    this.#nextAsked ??= this.#asked.then(async () => {
      this.#nextAsked = undefined;
      const answer = this.#client.call("wait", [replicas, replicationMs]);
      this.#asked = answer.catch(() => {});
      return Number(await answer);
    });
    const confirmed = await this.#nextAsked;
    if (this.#life !== life) throw new Error("the connection was lost before a replica confirmed the write");
    if (confirmed < replicas) throw new UnconfirmedError(replicas, confirmed);
  }

  get #usable(): boolean {
    return this.#client.status === "ready" && this.#client.stream.writable;
  }

  async #becomesUsable(check: () => void): Promise<void> {
    for (;;) {
      this.over.throwIfAborted();
      check();
      if (this.#usable) return;
      if (this.#client.status === "ready") {
        // The other side has ended it and ioredis has yet to say so. Nothing can be sent then, so that nothing is.
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#client.once("close", () => resolve());
        await promise;
      } else {
        if (this.#client.status === "wait") this.#client.connect().catch(() => {});
        this.#ready ??= Promise.withResolvers<void>();
        await this.#ready.promise;
      }
    }
  }

  /** Sends in one system call what is written before the event loop goes on: calls often come together, as answers do. */
  #gather(): void {
    const { stream } = this.#client;
    if (stream.writableCorked > 0) return;
    stream.cork();
    process.nextTick(() => stream.uncork());
  }
}

/** A server that is spoken to in the wrong way closes the connection, or waits for what it understands. */
function handshakeHint(error: unknown, { tls }: ResolvedOptions): string | undefined {
  if (/ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH/.test(String(error)))
    return "check host and port, and that Redis runs there";
  if (!/closed the connection|did not greet|ECONNRESET|ETIMEDOUT|Socket timeout/.test(String(error)))
    return undefined;
  return tls === undefined
    ? "if the server speaks TLS there, use rediss:// or tls=true"
    : "if the server does not speak TLS there, use redis:// or leave out tls=true";
}
