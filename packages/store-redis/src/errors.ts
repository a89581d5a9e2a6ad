import {
  AuthError,
  CocoonError,
  CorruptError,
  ExhaustedError,
  InvalidError,
  type Outcome,
  UnavailableError,
} from "@cocoon-net/core";
import { DeadlineError } from "./deadline.ts";
import type { ResolvedOptions } from "./options.ts";

/** A write that the primary has applied, and too few replicas have confirmed: a failover may lose it. */
export class UnconfirmedError extends Error {
  constructor(wanted: number, confirmed: number) {
    super(`applied, but confirmed by ${confirmed} of ${wanted} replica${wanted === 1 ? "" : "s"}`);
    this.name = "UnconfirmedError";
  }
}

/** What was being done when an error came. */
export interface Attempt {
  /** `txn on redis://h/p`. */
  readonly what: string;
  /** What an answer that never came leaves open. A server that answers with an error has applied nothing. */
  readonly outcome: Outcome;
  readonly topology: ResolvedOptions["topology"];
  /** What may help when there was no answer. */
  readonly hint?: string | undefined;
}

/** Turns what ioredis, Node's sockets and the server raise into the errors of the Store port. */
export function storeError(error: unknown, attempt: Attempt): CocoonError {
  if (error instanceof CocoonError) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  if (cause instanceof UnconfirmedError) {
    return new UnavailableError(`${attempt.what}: ${cause.message}`, {
      outcome: "unknown",
      cause,
      hint: "a failover may lose it: see to the replicas, or set wait=0 in the store URL to do without them",
    });
  }
  const doubt = "the write may have been applied; read before repeating it";
  const hint = attempt.outcome === "unknown" ? doubt : attempt.hint;
  return (
    serverError(cause, attempt) ??
    tlsError(cause, attempt.what) ??
    new UnavailableError(`${attempt.what}: ${reason(cause)}`, {
      outcome: attempt.outcome,
      cause,
      ...(hint === undefined ? {} : { hint }),
    })
  );
}

/** An answer of the server that starts with an error code, or undefined. */
function serverError(cause: Error, { what, topology }: Attempt): CocoonError | undefined {
  const message = `${what}: ${cause.message}`;
  const none = { outcome: "none", cause } as const;
  const permissions = "grant the user the commands and keys that the README of @cocoon-net/store-redis lists";
  if (/can't run this command|can't access at least one of the keys/.test(cause.message)) {
    return new AuthError(message, { cause, hint: permissions });
  }
  if (/Error compiling script/.test(cause.message)) {
    return new InvalidError(message, { cause, hint: "use Redis 7.0 or newer, or Valkey" });
  }
  if (/unknown command '?sentinel/i.test(cause.message)) {
    return new InvalidError(`${what}: no sentinel answers there`, {
      cause,
      hint: "name the sentinels, whose port is 26379 as a rule; a Redis without them is redis://",
    });
  }
  if (/DB index is out of range/.test(cause.message)) {
    return new InvalidError(message, { cause, hint: "the server has fewer databases: give another db" });
  }
  if (/unknown (?:redis )?command/i.test(cause.message)) {
    return new InvalidError(message, {
      cause,
      hint: "use Redis 7.0 or newer, or Valkey, with no command renamed",
    });
  }
  if (/ID specified in XADD is equal or smaller/.test(cause.message)) {
    return new CorruptError(message, {
      cause,
      hint: "its state key was removed by hand: restore it, or delete all keys of the prefix",
    });
  }
  if (/cluster support disabled/.test(cause.message)) {
    return new InvalidError(message, { cause, hint: "this is no Redis Cluster: use redis://" });
  }
  switch (/^[A-Z]+(?=\b)/.exec(cause.message)?.[0]) {
    case "WRONGPASS":
    case "NOAUTH":
      return new AuthError(message, { cause, hint: "check user and password in the store URL" });
    case "DENIED":
      return new AuthError(message, {
        cause,
        hint: "set a password on the server, or bind it to this address",
      });
    case "NOPERM":
      return new AuthError(message, { cause, hint: permissions });
    case "OOM":
      return new ExhaustedError(message, { cause, hint: "raise maxmemory or delete what is not needed" });
    case "WRONGTYPE":
      return new InvalidError(message, {
        cause,
        hint: "another program uses keys of this prefix: choose another one, as the path of the store URL",
      });
    case "CROSSSLOT":
    case "MOVED":
    case "ASK":
      // On the way to another node of the cluster; the next call goes there.
      return topology === "cluster"
        ? new UnavailableError(message, none)
        : new InvalidError(message, { cause, hint: "this is a Redis Cluster: use redis+cluster://" });
    case "READONLY":
      return new UnavailableError(message, {
        ...none,
        hint: "the server is a replica: name the primary, or use redis+sentinel://",
      });
    case "MISCONF":
      return new UnavailableError(message, {
        ...none,
        hint: "the server cannot write to its disk: mend that",
      });
    case "NOREPLICAS":
    case "LOADING":
    case "BUSY":
    case "CLUSTERDOWN":
    case "MASTERDOWN":
    case "TRYAGAIN":
    case "UNKILLABLE":
      return new UnavailableError(message, none);
    default:
      return cause.name === "ReplyError" ? new UnavailableError(message, none) : undefined;
  }
}

/** A handshake that no retry can mend, or undefined. */
function tlsError(cause: Error, what: string): InvalidError | undefined {
  const code = "code" in cause ? String(cause.code) : "";
  const message = `${what}: ${cause.message.replace(/^.*:SSL routines:[^:]*:([^:]+):.*$/s, "$1")}`;
  if (/wrong version number|packet length too long/.test(cause.message)) {
    return new InvalidError(message, { cause, hint: "the server does not speak TLS there: use redis://" });
  }
  if (/certificate required|handshake failure|bad certificate/.test(cause.message)) {
    return new InvalidError(message, {
      cause,
      hint: "the server wants a client certificate: give cert and key",
    });
  }
  if (/CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|^ERR_(?:OSSL|SSL|TLS)/.test(code)) {
    return new InvalidError(message, { cause, hint: "check the parameters ca, cert, key and servername" });
  }
  return undefined;
}

function reason(cause: Error): string {
  if (cause instanceof DeadlineError) return cause.message;
  if (cause.name === "MaxRetriesPerRequestError" || /Connection is closed/.test(cause.message)) {
    return "the connection was lost before the answer came";
  }
  return cause.message;
}
