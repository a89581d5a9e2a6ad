import {
  AuthError,
  type CocoonError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  notAnAnswer,
  type RawAnswer,
  throttledBy,
  UnavailableError,
} from "@cocoon-net/core";
import { isRecord, listOf, type OperationError } from "./wire.ts";

/** The fingerprint was stale: somebody else has changed the resource. Read again, and decide again. */
export class StaleError extends ConflictError {}

/** A resource has as much as one may have, e.g. an interface its alias ranges; a project's quotas are another thing. */
export class LimitError extends ExhaustedError {
  /** Undefined when the API does not say. */
  readonly limit: number | undefined;

  constructor(message: string) {
    super(message, { hint: "free some, or spread them over more nodes" });
    const limit = /\blimit: *(\d+)/i.exec(message)?.[1];
    this.limit = limit === undefined ? undefined : Number(limit);
  }
}

/** The API has refused the access token itself, before it did anything. */
export class TokenError extends AuthError {}

/** Requests and groups of requests are limited by the minute; resources are limited by quotas. */
const rateMessage = /rate ?limit exceeded|quota exceeded for quota (group|metric)|per minute/i;
const quotaMessage = /^quota '|quota .* exceeded/i;
/** How a limit of a resource reads is not documented for alias ranges; these are the forms that others have. */
const limitMessage =
  /exceeded limit|limit .* exceeded|(too many|at most|more than|maximum) .*\b(alias|secondary)|\b(alias|secondary) .*(too many|at most|more than|maximum)/i;

/** The error that a refusal stands for. `what` is the method and its subject. */
export function refusal(what: string, answer: RawAnswer): CocoonError {
  const failure = readFailure(answer.body);
  if (failure === undefined) return notAnAnswer(what, answer);
  const { reason } = failure;
  const message = `${what} was refused: ${reason === "" ? `HTTP ${answer.status}` : reason}: ${failure.message}`;
  // Too many changes of one thing: that is no reason to ask less often about others.
  if (/^operation rate exceeded/i.test(failure.message)) {
    return new UnavailableError(message, { outcome: "none", hint: "try again later" });
  }
  const isRate = /^rate_?limit_?exceeded$/i.test(reason) || rateMessage.test(failure.message);
  if (answer.status === 429 || (answer.status === 403 && isRate)) return throttledBy(answer, message);
  if (reason === "quotaExceeded" || quotaMessage.test(failure.message)) return exhausted(message);
  if (reason === "limitExceeded" || (answer.status < 500 && limitMessage.test(failure.message))) {
    return new LimitError(message);
  }
  switch (answer.status) {
    case 401:
      return new TokenError(message, { hint: "check the Google credentials and this machine's clock" });
    case 403:
      return forbidden(message);
    case 404:
      return new NotFoundError(message, /'projects\/[^/']+'/.test(failure.message) ? { hint: whose } : {});
    case 409:
      return new ConflictError(message);
    case 412:
      return new StaleError(message);
  }
  if (reason === "resourceNotReady" || /is not ready/.test(failure.message)) {
    return new UnavailableError(message, { outcome: "none" });
  }
  if (answer.status >= 500) return new UnavailableError(message, { outcome: "unknown" });
  return new InvalidError(message, /field '(zone|region)'/.test(failure.message) ? { hint: whose } : {});
}

const whose = "check the project, the zone, and whose credentials these are";

/** The error of an operation that has ended badly. */
export function operationFailure(what: string, errors: readonly OperationError[]): CocoonError {
  const [first = { code: "", message: "no reason given" }] = errors;
  const message = `${what} failed: ${first.code}: ${first.message}`;
  if (first.code === "IP_IN_USE_BY_ANOTHER_RESOURCE") return new ConflictError(message);
  if (/QUOTA|EXHAUSTED/.test(first.code) || quotaMessage.test(first.message)) return exhausted(message);
  if (/LIMIT/.test(first.code) || limitMessage.test(first.message)) return new LimitError(message);
  if (/NOT_READY|INTERNAL|UNAVAILABLE|TIMEOUT|BACKEND/.test(first.code)) {
    return new UnavailableError(message, { outcome: "unknown" });
  }
  if (/CONDITION_NOT_MET|FINGERPRINT/.test(first.code)) return new StaleError(message);
  if (/NOT_FOUND/.test(first.code)) return new NotFoundError(message);
  if (/PERMISSION|FORBIDDEN/.test(first.code)) return forbidden(message);
  return new InvalidError(message);
}

/** Whether a 404 is about this resource, and not about something above it: a project, a zone. */
export function isAbout(error: unknown, path: string): boolean {
  return error instanceof NotFoundError && error.message.includes(`'${path}'`);
}

interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** `{error: {message, errors: [{reason}], details: [ErrorInfo]}}` */
function readFailure(text: string): Failure | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const error = isRecord(json) ? json.error : undefined;
  if (!isRecord(error)) return undefined;
  const first = [...listOf(error, "errors"), ...listOf(error, "details")].find(
    (item) => isRecord(item) && typeof item.reason === "string",
  );
  return {
    reason: isRecord(first) ? String(first.reason) : "",
    message: typeof error.message === "string" ? error.message.replaceAll(/\s*\n\s*/g, " ") : "",
  };
}

function exhausted(message: string): ExhaustedError {
  return new ExhaustedError(message, { hint: "free some, or have the project's limit raised" });
}

function forbidden(message: string): AuthError {
  if (/authentication scopes/.test(message)) {
    return new AuthError(message, { hint: "give the instance the access scope cloud-platform" });
  }
  if (/accessNotConfigured|SERVICE_DISABLED|has not been used in project/.test(message)) {
    return new AuthError(message, { hint: "turn on the project's Compute Engine API" });
  }
  return new AuthError(message, {
    hint: "grant it, e.g. with roles/compute.networkAdmin, to the account in use",
  });
}
