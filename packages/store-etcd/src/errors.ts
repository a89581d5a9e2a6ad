import { AuthError, CocoonError, ExhaustedError, InvalidError, UnavailableError } from "@cocoon-net/core";
import { isBrokenCircuitError } from "cockatiel";
import { ClientClosedError } from "etcd3";
import { withoutPolicy } from "./host-policy.ts";

/** A call in words. */
export interface CallDescription {
  /** `get subnets/n1` */
  readonly what: string;
  /** `h1:2379,h2:2379` */
  readonly where: string;
  /** Whether it may change something. */
  readonly writes: boolean;
}

type Make = new (message: string, options: { hint?: string; cause: unknown }) => CocoonError;

/**
 * The client gives an error per gRPC status, and etcd's meaning only in the text; so the text decides. What
 * no rule knows is an outage, which is what callers can live with.
 */
const rules: readonly (readonly [pattern: RegExp, kind: Make, hint?: string])[] = [
  [
    /database space exceeded/,
    ExhaustedError,
    "compact and defragment etcd or raise --quota-backend-bytes, then run: etcdctl alarm disarm",
  ],
  [/user name is empty/, AuthError, "this etcd has authentication on: put user:password into the store URL"],
  [
    /authentication is not enabled/,
    InvalidError,
    "take user:password out of the store URL, or run: etcdctl auth enable",
  ],
  [/authentication failed/, AuthError, "check the user name and password of the store URL"],
  [
    /permission denied|PERMISSION_DENIED/i,
    AuthError,
    "grant the user's role readwrite on the store's prefix: etcdctl role grant-permission --prefix=true",
  ],
  [/invalid auth token|auth store is old|UNAUTHENTICATED/, AuthError],
  [/requested lease not found/, InvalidError, "the session is over: open a new one"],
  [
    /request is too large|received message larger/,
    InvalidError,
    "write less in one transaction; the server's limit is --max-request-bytes",
  ],
  [/too many operations/, InvalidError, "the server's limit is --max-txn-ops, which must be 128 or more"],
  [/has been compacted|future revision/, InvalidError, "read at the present revision"],
  [/INVALID_ARGUMENT|OUT_OF_RANGE|UNIMPLEMENTED/, InvalidError],
];

/** With one of these in the text, the request did not get as far as being carried out. */
const notSent =
  /No connection established|Name resolution failed|closed before|Waiting for LB pick|etcdserver: no leader|too many requests|corrupt cluster/;

/** Maps what the client throws. */
export function toCocoonError(thrown: unknown, call: CallDescription): Error {
  const error = withoutPolicy(thrown);
  if (error instanceof CocoonError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const message = `${call.what} on etcd ${call.where}: ${reasonIn(text)}`;
  for (const [pattern, Kind, hint] of rules) {
    if (pattern.test(text))
      return new Kind(message, hint === undefined ? { cause: error } : { hint, cause: error });
  }
  const applied = call.writes && !isCertainlyNotApplied(error, text);
  return new UnavailableError(message, {
    outcome: applied ? "unknown" : "none",
    hint: text.includes("corrupt cluster")
      ? "its members disagree about the data: repair the cluster, then run: etcdctl alarm disarm"
      : "check that etcd runs there, has a leader, and can be reached from here",
    cause: error,
  });
}

/** True when another try with a new token can work: a JWT outlived a change of users or roles. */
export function isOutdatedToken(error: unknown): boolean {
  return error instanceof Error && error.message.includes("auth store is old");
}

/** True when a read was pinned to a revision that the server has compacted away, or not reached yet. */
export function isHistoryGone(error: unknown): boolean {
  return error instanceof Error && /has been compacted|future revision/.test(error.message);
}

function isCertainlyNotApplied(error: unknown, text: string): boolean {
  if (error instanceof ClientClosedError || (error instanceof Error && isBrokenCircuitError(error)))
    return true;
  return notSent.test(text) && !text.includes("previous attempts");
}

/** The part of a gRPC status that says something, on one line. */
function reasonIn(text: string): string {
  const reason = text
    .replace(/^(Lease )?\d+ [A-Z_]+: /, "")
    .replace(/^No connection established\. Last error: (Error(?: \[\w+\])?: )?/, "")
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, "")
    .replace(/\.? ?Resolution note:.*$/s, "")
    .replace(/^(Deadline exceeded after [\d.]+s),.*$/s, "$1")
    .replace(/^.*SSL routines:[^:]*:([^:]*):.*$/s, "TLS: $1")
    .replace(/^etcdserver: /, "")
    .replace(/ is expired or revoked$/, "")
    .replaceAll(/\s+/g, " ")
    .trim();
  return reason === "" ? "no reason given" : reason;
}
