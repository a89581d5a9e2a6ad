import {
  Backoff,
  type CallOptions,
  InvalidError,
  pause,
  type Revision,
  UnavailableError,
} from "@cocoon-net/core";
import { noop } from "cockatiel";
import {
  Etcd3,
  type IDuplexStream,
  type IResponseHeader,
  type IWatchRequest,
  type IWatchResponse,
} from "etcd3";
import { isOutdatedToken, toCocoonError } from "./errors.ts";
import { hostPolicy } from "./host-policy.ts";
import type { KeyRange } from "./keyspace.ts";
import { MemberChannels } from "./member-channels.ts";
import { formatEndpoint, type ResolvedEtcdOptions } from "./options.ts";
import { endStream, SharedClient } from "./shared-client.ts";
import { WatchProbes } from "./watch-probes.ts";

export type WatchCall = IDuplexStream<IWatchRequest, IWatchResponse>;

export interface Call<T> {
  /** For the message of an error; made only then. */
  readonly what: () => string;
  readonly writes: boolean;
  send(client: Etcd3, limit: { readonly deadline: number }): Promise<T>;
}

/** Of a call that is given no deadline. */
export const defaultTimeoutMs = 2_000;
/** Certificate files are looked at so often, and when a call has failed, at most each second. */
const certificatesEveryMs = 5_000;
const certificatesPauseMs = 1_000;
/** How much later than gRPC's our own deadline is: gRPC's says more, but does not cover the login. */
const graceMs = 50;

/**
 * The client with its default fault handling replaced: every call has one deadline, is tried again only
 * when it certainly was not applied, and there is no circuit breaker that turns an answer into an outage.
 */
export class EtcdConnection {
  readonly where: string;
  readonly closed: AbortSignal;
  readonly watchProbes: WatchProbes = new WatchProbes((range) => this.probe(range));
  readonly #options: ResolvedEtcdOptions;
  readonly #closing = new AbortController();
  /** How each call that waits is ended. A signal looks through all its listeners for each that goes. */
  readonly #waiting = new Set<(reason: Error) => void>();
  readonly #certificatesTimer: NodeJS.Timeout | undefined;
  #client: SharedClient;
  #certificatesReadAt = Number.NEGATIVE_INFINITY;
  #clusterId: string | undefined;
  #highest: Revision = 0;
  #losses = 0;

  /** Opens no socket yet. @throws {InvalidError} when the certificates cannot be used. */
  constructor(options: ResolvedEtcdOptions) {
    this.#options = options;
    this.where = options.where;
    this.closed = this.#closing.signal;
    this.#client = new SharedClient(newClient(options));
    if (options.tls?.hasFiles) {
      this.#certificatesTimer = setInterval(() => void this.#rereadCertificates(), certificatesEveryMs);
    }
  }

  /**
   * The cluster's id; with a count behind it once this connection has seen the server's history fall back.
   * The count is needed as a member that restarts without its data makes the same id again.
   */
  get incarnation(): string {
    return `${this.#clusterId ?? ""}${this.#losses > 0 ? `+${this.#losses}` : ""}`;
  }

  /** A call whose answer says nothing about the history: leases, status. */
  async call<T>(call: Call<T>, options: CallOptions = {}): Promise<T> {
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    const end = performance.now() + timeoutMs;
    const backoff = new Backoff({ firstMs: 50, maxMs: 400 });
    const hosts = this.#options.endpoints.length;
    // A read that hits a silent member leaves time for another one; a write must not be sent twice.
    const shareMs = call.writes || hosts === 1 ? timeoutMs : timeoutMs / 3;
    for (let triesLeft = 2 * hosts; ; triesLeft -= 1) {
      signal?.throwIfAborted();
      const ms = Math.max(Math.min(end - performance.now(), shareMs), 1);
      const shared = this.#client;
      try {
        return await this.#bounded(
          () => shared.use((client) => call.send(client, { deadline: Date.now() + ms })),
          ms + graceMs,
          signal,
          `no answer in ${Math.round(ms)} ms`,
        );
      } catch (error) {
        signal?.throwIfAborted();
        const outdated = isOutdatedToken(error);
        if (outdated) this.#replace(shared);
        const description = { what: call.what(), where: this.where, writes: call.writes };
        const mapped = toCocoonError(error, description);
        if (mapped instanceof UnavailableError) await this.#rereadCertificates();
        const harmless = outdated || (mapped instanceof UnavailableError && mapped.outcome === "none");
        const waitMs = backoff.next();
        const late = performance.now() + waitMs >= end;
        if (!harmless || late || triesLeft === 0 || this.closed.aborted) throw mapped;
        await pause(waitMs, signal);
      }
    }
  }

  /** A call on the key space. Every one is linearizable, so its revision must not be behind an earlier one's. */
  async kv<T extends { readonly header: IResponseHeader }>(call: Call<T>, options?: CallOptions): Promise<T> {
    const [before, losses] = [this.#highest, this.#losses];
    const answer = await this.call(call, options);
    // An answer that crossed the discovery of a loss may be from before it.
    if (losses === this.#losses) this.#observe(answer.header, before);
    return answer;
  }

  /**
   * Proves that the server can be reached, lets us read there, and still has the history we know; if not,
   * {@link incarnation} is another one afterwards. Answers its revision.
   */
  async probe(
    range: Pick<KeyRange, "key"> & Partial<KeyRange>,
    options?: CallOptions,
    what = "check the history",
  ): Promise<Revision> {
    const answer = await this.kv(
      {
        what: () => what,
        writes: false,
        send: (client, limit) => client.kv.range({ ...range, limit: 1, keys_only: true }, limit),
      },
      options,
    );
    return Number(answer.header.revision);
  }

  /** Opens a watch stream. gRPC streams have no deadline: who opens one must watch over it. */
  async watchStream(signal: AbortSignal): Promise<WatchCall> {
    const shared = this.#client;
    let wanted = true;
    try {
      return await this.#bounded(
        async () => {
          const stream = await shared.stream((client) => client.watchClient.watch());
          if (!wanted) endStream(stream);
          return stream;
        },
        defaultTimeoutMs,
        signal,
        `not open in ${defaultTimeoutMs} ms`,
      );
    } catch (error) {
      wanted = false;
      signal.throwIfAborted();
      throw toCocoonError(error, { what: "open a watch", where: this.where, writes: false });
    }
  }

  /**
   * Renews a lease. Answers the seconds left: 0 when it is gone. Where there are several members, others are asked
   * too while one is silent; the first answer counts.
   */
  async renewLease(id: string, timeoutMs: number, signal: AbortSignal): Promise<number> {
    const answered = new AbortController();
    const over = AbortSignal.any([signal, answered.signal]);
    const tries = Math.min(this.#options.endpoints.length, 3);
    const renewals = Array.from({ length: tries }, async (_, at) => {
      const startMs = (timeoutMs * at) / tries;
      if (at > 0) await pause(startMs, over);
      return this.#renewOnce(id, Math.round(timeoutMs - startMs), over);
    });
    try {
      return await Promise.any(renewals);
    } catch (error) {
      signal.throwIfAborted();
      throw error instanceof AggregateError ? error.errors[0] : error;
    } finally {
      answered.abort();
    }
  }

  /** Ends every call that waits. Idempotent. */
  close(): void {
    if (this.closed.aborted) return;
    this.#closing.abort();
    for (const end of this.#waiting) end(new Error("the store was closed"));
    clearInterval(this.#certificatesTimer);
    this.#client.close();
  }

  /** On a stream of its own. */
  async #renewOnce(id: string, timeoutMs: number, signal: AbortSignal): Promise<number> {
    const renewal = new AbortController();
    try {
      return await this.#bounded(
        () => this.#client.use((client) => askToRenew(client, id, renewal.signal)),
        timeoutMs,
        signal,
        `no answer in ${timeoutMs} ms`,
      );
    } catch (error) {
      signal.throwIfAborted();
      throw toCocoonError(error, { what: `renew session ${id}`, where: this.where, writes: true });
    } finally {
      renewal.abort();
    }
  }

  /** Waits for `start()` no longer than `ms`, nor past the signal or {@link close}; what it began goes on. */
  async #bounded<T>(
    start: () => Promise<T>,
    ms: number,
    signal: AbortSignal | undefined,
    late: string,
  ): Promise<T> {
    if (this.closed.aborted) throw new Error("the store was closed before");
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timer = setTimeout(() => reject(new Error(late)), ms);
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.add(reject);
    try {
      start().then(resolve, reject);
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      this.#waiting.delete(reject);
    }
  }

  #observe({ cluster_id: id, revision: text }: IResponseHeader, before: Revision): void {
    const revision = Number(text);
    const lost = this.#clusterId !== undefined && (this.#clusterId !== id || revision < before);
    if (lost) this.#losses += 1;
    this.#clusterId = id;
    this.#highest = lost ? revision : Math.max(this.#highest, revision);
  }

  /** Goes on with a new client, which logs in anew, unless somebody has seen to that. */
  #replace(used: SharedClient): void {
    if (this.#client !== used || this.closed.aborted) return;
    this.#client = new SharedClient(newClient(this.#options));
    used.retire();
  }

  async #rereadCertificates(): Promise<void> {
    const { tls } = this.#options;
    const now = performance.now();
    if (!tls?.hasFiles || now - this.#certificatesReadAt < certificatesPauseMs) return;
    this.#certificatesReadAt = now;
    const used = this.#client;
    if (await tls.reread()) this.#replace(used);
  }
}

/** The seconds that the lease has. The stream ends with the answer, or when `ended` aborts. */
async function askToRenew(client: Etcd3, id: string, ended: AbortSignal): Promise<number> {
  const stream = await client.leaseClient.leaseKeepAlive();
  try {
    return await new Promise<number>((resolve, reject) => {
      ended.addEventListener("abort", () => reject(new Error("not waited for")), { once: true });
      if (ended.aborted) reject(new Error("not waited for"));
      stream.on("data", (answer) => resolve(Number(answer.TTL)));
      stream.on("error", reject);
      stream.on("end", () => reject(new Error("the stream ended without an answer")));
      stream.write({ ID: id });
    });
  } finally {
    endStream(stream);
  }
}

function newClient(options: ResolvedEtcdOptions): Etcd3 {
  const { endpoints, tls, auth } = options;
  const credentials = tls?.credentials;
  const channels = new MemberChannels();
  // The client logs in at the members in turn, and must get to the next one while the call waits.
  const loginMs = endpoints.length === 1 ? defaultTimeoutMs : defaultTimeoutMs / 2;
  try {
    return new Etcd3({
      hosts: endpoints.map((endpoint) => `${tls ? "https" : "http"}://${formatEndpoint(endpoint)}`),
      ...(credentials === undefined ? {} : { credentials: { ...credentials } }),
      ...(auth === undefined
        ? {}
        : { auth: { ...auth, callOptions: () => ({ deadline: Date.now() + loginMs }) } }),
      grpcOptions: {
        "grpc.max_receive_message_length": -1,
        // Ends what hangs on a dead connection in 6.9 s. etcd drops clients that ping more often than each 5 s.
        "grpc.keepalive_time_ms": 5_200,
        "grpc.keepalive_timeout_ms": 1_700,
        // A shared pool would wait for TCP's own backoff after a black hole, for up to 15 s.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_channelz": 0,
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 2_000,
        "grpc.service_config_disable_resolution": 1,
        channelFactoryOverride: channels.open.bind(channels),
      },
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + defaultTimeoutMs }),
      faultHandling: {
        host: (host) => hostPolicy(endpoints.length, () => channels.forget(host.replace(/^https?:\/\//, ""))),
        global: noop,
      },
    });
  } catch (cause) {
    throw new InvalidError(`etcd ${options.where}: the TLS certificate or key cannot be used`, {
      hint: "give PEM files as ca= and cert=, and as key= the key that belongs to the certificate",
      cause,
    });
  }
}
