import {
  AuthError,
  CocoonError,
  type CocoonErrorOptions,
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  notAnAnswer,
  type RawAnswer,
  ThrottledError,
  throttledBy,
  UnavailableError,
} from "@cocoon-net/core";
import { isRecord } from "./wire.ts";

/** What an answer says went wrong. */
interface Failure {
  readonly code: string;
  readonly codeN: number | undefined;
  readonly message: string;
}

/** `expired`: refused for the credentials, and new ones may help. `unanswered`: nothing came back. */
export type FailureKind =
  | "throttled"
  | "busy"
  | "unknown"
  | "unanswered"
  | "gone"
  | "exhausted"
  | "conflict"
  | "expired"
  | "auth"
  | "invalid";

/** No room, with the vendor's code: it says what is used up. */
export class QuotaError extends ExhaustedError {
  readonly vendorCode: string;

  constructor(vendorCode: string, message: string, options: CocoonErrorOptions) {
    super(message, options);
    this.vendorCode = vendorCode;
  }
}

/**
 * Codes of vpc, ecs and the gateway in front of them. Sources: the error tables of the vpc actions and
 * docs.byteplus.com/byteplus-platform/reference/common-error-codes. First match wins.
 */
const kindByCode: readonly (readonly [RegExp, FailureKind])[] = [
  [/FlowLimitExceeded|^Throttl|^RequestLimitExceeded|^RequestThrottled/, "throttled"],
  [/^InvalidEip\.InvalidStatus$/, "conflict"],
  [/\.InvalidStatus$|^ServiceUnavailableTemp$/, "busy"],
  [/^Internal(Error|ServiceError|ServiceTimeout)$/, "unknown"],
  [/^ServiceNotFound$/, "invalid"],
  [/\.NotFound$|^InvalidEni\.InstanceMismatch$/, "gone"],
  [/^InsufficientIpInSubnet$|^(LimitExceeded|QuotaExceeded)\b/, "exhausted"],
  [/\.(InUse|Conflict)$|^IdempotentParameterMismatch$/, "conflict"],
  [/^(LackPolicy|AccessDenied|InvalidTimestamp|InvalidCredential)$/, "auth"],
  [/^(AccessKeyIsExpire|SessionTokenInvalid|ExpiredToken|RequestExpired|InvalidSecretToken)/, "expired"],
  [/^(InvalidAccessKey|SignatureDoesNotMatch|InvalidAuthorization)$/, "expired"],
  [/^(MissingAuthenticationToken|MissingSignature)$/, "auth"],
  [/^(Invalid|Missing|Forbidden|MethodNotAllowed)/, "invalid"],
];

/** The gateway's numbers, for answers whose code we do not know. */
const kindByCodeN: Readonly<Record<number, FailureKind>> = {
  100002: "invalid",
  100003: "auth",
  100004: "invalid",
  100005: "auth",
  100006: "auth",
  100007: "invalid",
  100008: "invalid",
  100009: "expired",
  100010: "expired",
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
  [/^InvalidCredential$/, "check VOLCENGINE_REGION"],
  [/^InsufficientIpInSubnet$/, "delete unused ENIs of the subnet, or ask for a smaller pool"],
  [/^QuotaExceeded\.Eni$/, "delete unused ENIs, or raise the account's quota"],
  [/^QuotaExceeded\./, "raise the account's quota"],
  [/^LimitExceeded\.EnisPerInstance$/, "detach ENIs that are not needed, or use a larger instance type"],
  [
    /^LimitExceeded\.PrivateIpsPerEni$/,
    "grant ecs:DescribeInstanceTypes, which tells how many an ENI may have",
  ],
];

/** The cloud has said no: certainly not applied, and the same again would be refused again. */
export function isRefusal(error: unknown): error is CocoonError {
  return (
    error instanceof CocoonError && !(error instanceof UnavailableError || error instanceof ThrottledError)
  );
}

/** What was asked: action and subject, and the permission that it needs. */
export interface Question {
  readonly what: string;
  readonly permission: string;
}

export type ReadAnswer =
  | { readonly result: unknown }
  | { readonly error: CocoonError; readonly kind: FailureKind };

/** Reads an answer: its `Result`, or the error that it stands for. */
export function readAnswer(question: Question, answer: RawAnswer): ReadAnswer {
  const body = parseJson(answer.body);
  if (!isRecord(body)) return protocolError(notAnAnswer(question.what, answer));
  const failure = readFailure(body);
  if (failure !== undefined) {
    const kind = kindOf(answer.status, failure);
    return { kind, error: toError(question, answer, failure, kind) };
  }
  if (answer.status >= 300 || !isRecord(body.ResponseMetadata)) {
    return protocolError(notAnAnswer(question.what, answer, "no ResponseMetadata"));
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

function toError(question: Question, answer: RawAnswer, failure: Failure, kind: FailureKind): CocoonError {
  const name = failure.code || String(failure.codeN ?? `HTTP ${answer.status}`);
  const message = `${question.what} was refused: ${name}${failure.message === "" ? "" : `: ${failure.message}`}`;
  const denied = /^(LackPolicy|AccessDenied)$/.test(failure.code);
  const hint = denied
    ? `grant ${question.permission} to the access key`
    : hints.find(([pattern]) => pattern.test(failure.code))?.[1];
  const options = hint === undefined ? {} : { hint };
  switch (kind) {
    case "throttled":
      return throttledBy(answer, message, options);
    case "busy":
      return new UnavailableError(message, { ...options, outcome: "none" });
    case "unknown":
    case "unanswered":
      return new UnavailableError(message, { ...options, outcome: "unknown" });
    case "gone":
      return new NotFoundError(message, options);
    case "exhausted":
      return new QuotaError(failure.code, message, options);
    case "conflict":
      return new ConflictError(message, options);
    case "expired":
    case "auth":
      return new AuthError(message, { hint: hint ?? "check the Volcengine access key" });
    case "invalid":
      return new InvalidError(message, options);
  }
}

/** By code, then by the gateway's number, then by HTTP status: the codes differ a little between sites. */
function kindOf(status: number, failure: Failure): FailureKind {
  if (status === 429) return "throttled";
  const byCode = kindByCode.find(([pattern]) => pattern.test(failure.code))?.[1];
  const known = byCode ?? (failure.codeN === undefined ? undefined : kindByCodeN[failure.codeN]);
  if (known !== undefined) return known;
  if (status === 401) return "expired";
  if (status === 403) return "auth";
  return status >= 400 && status < 500 ? "invalid" : "unknown";
}

function protocolError(error: ThrottledError | UnavailableError): ReadAnswer {
  return { error, kind: error instanceof ThrottledError ? "throttled" : "unknown" };
}
