import { type CocoonErrorOptions, ThrottledError, UnavailableError } from "./errors.ts";

/** What came back over HTTP, before a driver has read it. */
export interface RawAnswer {
  readonly status: number;
  readonly body: string;
  /** The header `Retry-After`, of which only seconds are read. */
  readonly retryAfter: string | null;
}

/** Errors of node:net and undici that come before a request is sent. */
const neverSent = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

export interface Unanswered {
  /** Action and subject. */
  readonly what: string;
  readonly endpoint: string;
  /** Names the variable that sets the endpoint. */
  readonly setting: string;
  /** Given when the request was ended for its time. */
  readonly afterMs: number | undefined;
}

/** Nothing came back: what `fetch` threw. For Cloud drivers. */
export function unreachable(request: Unanswered, thrown: unknown): UnavailableError {
  const { what, endpoint, setting, afterMs } = request;
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
  const why = afterMs === undefined ? (code ?? String(cause)) : `no answer within ${afterMs} ms`;
  return new UnavailableError(`${what} failed: ${endpoint}: ${why}`, {
    cause: thrown,
    outcome: code !== undefined && neverSent.has(code) ? "none" : "unknown",
    hint: `check the network and ${setting}`,
  });
}

/** Not an answer of the API at all, e.g. a proxy's page: nothing is known about the request. For Cloud drivers. */
export function notAnAnswer(
  what: string,
  answer: RawAnswer,
  shown: string = answer.body.trim().slice(0, 80).replaceAll(/\s+/g, " ") || "an empty body",
): ThrottledError | UnavailableError {
  if (answer.status === 429) return throttledBy(answer, `${what} was refused: HTTP 429`);
  return new UnavailableError(`${what} got no API answer but HTTP ${answer.status} (${shown})`, {
    outcome: "unknown",
    hint: "check the endpoint and any proxy on the way",
  });
}

/** Refused for the rate, with the time that the answer names. For Cloud drivers. */
export function throttledBy(
  { retryAfter }: RawAnswer,
  message: string,
  options: CocoonErrorOptions = {},
): ThrottledError {
  const seconds = Number(retryAfter ?? Number.NaN);
  return new ThrottledError(message, {
    ...options,
    ...(seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {}),
  });
}
