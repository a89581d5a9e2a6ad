import { Backoff } from "@cocoon-net/core";
import { Redis, type RedisOptions } from "ioredis";
import { disconnectTimeoutMs, ownerConnector } from "./cluster-owner.ts";
import type { ResolvedOptions } from "./options.ts";

export interface ClientTraits {
  /** A server that owes an answer and sends nothing for so long is given up: the socket is closed. */
  readonly silenceMs: number;
  /** Comes back by itself whenever it is lost. Otherwise it has one life, in which it may also listen to channels. */
  readonly lasting: boolean;
}

/**
 * An ioredis client that does nothing behind our back: it neither queues commands while disconnected nor sends
 * them again, both of which would run a write twice or long after its caller gave up.
 */
export function createClient(options: ResolvedOptions, traits: ClientTraits): Redis {
  const { topology, hosts, username, password, tls, db } = options;
  const backoff = new Backoff({ maxMs: 500 });
  const common = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls: { ...tls } }),
    db,
    lazyConnect: true,
    // RESP3 lets a connection that listens run commands too, in one order with what it hears.
    protocol: traits.lasting ? (2 as const) : (3 as const),
    connectionName: "cocoon-net",
    disableClientInfo: true,
    connectTimeout: 2_000,
    disconnectTimeout: disconnectTimeoutMs,
    socketTimeout: traits.silenceMs,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // The server is no longer the one to talk to: find that. The command is not sent again.
    reconnectOnError: ({ message }: Error) => elsewhere(topology).test(message),
    retryStrategy: (attempt: number) => {
      if (!traits.lasting) return null;
      if (attempt === 1) backoff.reset();
      return Math.round(backoff.next());
    },
  } satisfies RedisOptions;
  switch (topology) {
    case "standalone":
      return new Redis({ ...common, ...hosts[0] });
    case "cluster":
      return new Redis({ ...common, Connector: ownerConnector(options) });
    case "sentinel":
      return new Redis({
        ...common,
        sentinels: [...hosts],
        name: options.sentinelName ?? "",
        ...(options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername }),
        ...(options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword }),
        ...(tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: { ...tls } }),
        sentinelCommandTimeout: 1_000,
        // One of a handle's connections is enough to hear of it.
        failoverDetector: traits.lasting,
      });
  }
}

/** Refusals of a server that is no longer the primary (an address may have moved), or the owner of the slot. */
function elsewhere(topology: ResolvedOptions["topology"]): RegExp {
  return topology === "cluster" ? /^(?:READONLY|MOVED|CLUSTERDOWN|MASTERDOWN) / : /^(?:READONLY|MASTERDOWN) /;
}
