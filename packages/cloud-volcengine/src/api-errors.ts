import {
  AuthError,
  type CocoonError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import { isRecord } from "./wire.ts";

/** What an answer says went wrong. */
interface Failure {
  readonly code: string;
  readonly codeN: number | undefined;
  readonly message: string;
}

export interface RawAnswer {
  readonly status: number;
  readonly body: string;
  readonly retryAfter: string | null;
}

type Kind = "throttled" | "busy" | "unknown" | "gone" | "exhausted" | "conflict" | "auth" | "invalid";

/**
 * Codes of vpc, ecs and the gateway in front of them. Sources: the error tables of the vpc actions and
 * docs.byteplus.com/byteplus-platform/reference/common-error-codes. First match wins.
 */
const kindByCode: readonly (readonly [RegExp, Kind])[] = [
  [/FlowLimitExceeded|^Throttl|^RequestLimitExceeded|^RequestThrottled/, "throttled"],
  [/^InvalidEip\.InvalidStatus$/, "conflict"],
  [/\.InvalidStatus$|^ServiceUnavailableTemp$/, "busy"],
  [/^Internal(Error|ServiceError|ServiceTimeout)$/, "unknown"],
  [/^ServiceNotFound$/, "invalid"],
  [/\.NotFound$|^InvalidEni\.InstanceMismatch$/, "gone"],
  [/^InsufficientIpInSubnet$|^(LimitExceeded|QuotaExceeded)\b/, "exhausted"],
  [/\.(InUse|Conflict)$|^IdempotentParameterMismatch$/, "conflict"],
  [
    /^(MissingAuthenticationToken|MissingSignature|InvalidTimestamp|InvalidAccessKey|SignatureDoesNotMatch)$/,
    "auth",
  ],
  [/^(LackPolicy|AccessDenied|InvalidAuthorization|InvalidCredential|InvalidSecretToken)$/, "auth"],
  [/^(AccessKeyIsExpire|SessionTokenInvalid|ExpiredToken)/, "auth"],
  [/^(Invalid|Missing|Forbidden|MethodNotAllowed)/, "invalid"],
];

/** The gateway's numbers, for answers whose code we do not know. */
const kindByCodeN: Readonly<Record<number, Kind>> = {
  100002: "invalid",
  100003: "auth",
  100004: "invalid",
  100005: "auth",
  100006: "auth",
  100007: "invalid",
  100008: "invalid",
  100009: "auth",
  100010: "auth",
  100012: "auth",
  100013: "auth",
  100014: "unknown",
  100016: "unknown",
  100018: "throttled",
  100019: "busy",
  100020: "invalid",
  100027: "throttled",
};

const hints: readonly (readonly [RegExp, string])[] = [
  [/^InvalidTimestamp$/, "set this machine's clock"],
  [/^(LackPolicy|AccessDenied)$/, "grant this action to the access key"],
  [/^InvalidCredential$/, "check VOLCENGINE_REGION"],
  [/^InsufficientIpInSubnet$/, "delete unused ENIs of the subnet, or ask for a smaller pool"],
  [/^QuotaExceeded\.Eni$/, "delete unused ENIs, or raise the account's quota"],
];

/** Reads an answer: its `Result`, or the error that it stands for. `what` is the action and its subject. */
export function readAnswer(what: string, answer: RawAnswer): { result: unknown } | { error: CocoonError } {
  const body = parseJson(answer.body);
  if (!isRecord(body)) {
    const shown = answer.body.trim().slice(0, 80).replaceAll(/\s+/g, " ") || "an empty body";
    return { error: protocolError(what, answer, shown) };
  }
  const failure = readFailure(body);
  if (failure !== undefined) return { error: toError(what, answer, failure) };
  if (answer.status >= 300 || !isRecord(body.ResponseMetadata)) {
    return { error: protocolError(what, answer, "no ResponseMetadata") };
  }
  return { result: body.Result };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The envelope's error, or the flat form of some gateway failures. */
function readFailure(body: Readonly<Record<string, unknown>>): Failure | undefined {
  const metadata = body.ResponseMetadata;
  const error = isRecord(metadata) ? metadata.Error : undefined;
  const [code, codeN, message] = isRecord(error)
    ? [error.Code, error.CodeN, error.Message]
    : [body.errorcode, body.errorcode, body.message];
  if (!isRecord(error) && body.errorcode === undefined) return undefined;
  return {
    code: typeof code === "string" ? code : "",
    codeN: typeof codeN === "number" ? codeN : undefined,
    message: typeof message === "string" ? message : "",
  };
}

function toError(what: string, answer: RawAnswer, failure: Failure): CocoonError {
  const name = failure.code || String(failure.codeN ?? `HTTP ${answer.status}`);
  const message = `${what} was refused: ${name}${failure.message === "" ? "" : `: ${failure.message}`}`;
  const hint = hints.find(([pattern]) => pattern.test(failure.code))?.[1];
  const options = hint === undefined ? {} : { hint };
  switch (kindOf(answer.status, failure)) {
    case "throttled": {
      const seconds = Number(answer.retryAfter ?? Number.NaN);
      const retryAfter = seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {};
      return new ThrottledError(message, { ...options, ...retryAfter });
    }
    case "busy":
      return new UnavailableError(message, { ...options, outcome: "none" });
    case "unknown":
      return new UnavailableError(message, { ...options, outcome: "unknown" });
    case "gone":
      return new NotFoundError(message, options);
    case "exhausted":
      return new ExhaustedError(message, options);
    case "conflict":
      return new ConflictError(message, options);
    case "auth":
      return new AuthError(message, { hint: hint ?? "check the Volcengine access key" });
    case "invalid":
      return new InvalidError(message, options);
  }
}

/** By code, then by the gateway's number, then by HTTP status: the codes differ a little between sites. */
function kindOf(status: number, failure: Failure): Kind {
  if (status === 429) return "throttled";
  const byCode = kindByCode.find(([pattern]) => pattern.test(failure.code))?.[1];
  const known = byCode ?? (failure.codeN === undefined ? undefined : kindByCodeN[failure.codeN]);
  if (known !== undefined) return known;
  if (status === 401 || status === 403) return "auth";
  return status >= 400 && status < 500 ? "invalid" : "unknown";
}

/** Not an answer of the API at all, e.g. a proxy's page: nothing is known about the request. */
function protocolError(what: string, answer: RawAnswer, shown: string): CocoonError {
  if (answer.status === 429) return new ThrottledError(`${what} was refused: HTTP 429`);
  return new UnavailableError(`${what} got no API answer but HTTP ${answer.status} (${shown})`, {
    outcome: "unknown",
    hint: "check the endpoint and any proxy on the way",
  });
}
