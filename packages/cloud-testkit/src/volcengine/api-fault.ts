/**
 * An error answer of the API (facts §2.13). Gateway errors carry a `CodeN`, business errors mostly only a
 * `Code`.
 */
export class ApiFault extends Error {
  readonly httpStatus: number;
  readonly code: string;
  readonly codeN: number | undefined;
  /** What the `Retry-After` header says, if it is sent. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    httpStatus: number,
    code: string,
    message: string,
    options: { readonly codeN?: number; readonly retryAfterSeconds?: number | undefined } = {},
  ) {
    super(message);
    this.name = "ApiFault";
    this.httpStatus = httpStatus;
    this.code = code;
    this.codeN = options.codeN;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** A business error of vpc or ecs: 404 for `*.NotFound`, 403 for `Forbidden`, else 400. */
export function refuse(code: string, message: string): ApiFault {
  const status = code.endsWith(".NotFound") ? 404 : code === "Forbidden" ? 403 : 400;
  return new ApiFault(status, code, message);
}

const gatewayCodes = {
  MissingParameter: [100002, 400],
  MissingAuthenticationToken: [100003, 401],
  MissingRequestInfo: [100004, 400],
  MissingSignature: [100005, 401],
  InvalidTimestamp: [100006, 400],
  ServiceNotFound: [100007, 404],
  InvalidActionOrVersion: [100008, 404],
  InvalidAccessKey: [100009, 401],
  SignatureDoesNotMatch: [100010, 401],
  AccessDenied: [100013, 403],
  InternalError: [100014, 500],
  InternalServiceTimeout: [100016, 504],
  FlowLimitExceeded: [100018, 429],
  MethodNotAllowed: [100020, 405],
  AccountFlowLimitExceeded: [100027, 429],
} as const;

export type GatewayCode = keyof typeof gatewayCodes;

/** An error of the gateway in front of every service (facts §2.13, second table). */
export function gatewayFault(code: GatewayCode, message: string): ApiFault {
  const [codeN, httpStatus] = gatewayCodes[code];
  return new ApiFault(httpStatus, code, message, { codeN });
}

/** A refusal for the rate; with which HTTP status is not the same everywhere (facts §2.13). */
export function throttleFault(
  code: "FlowLimitExceeded" | "AccountFlowLimitExceeded",
  message: string,
  answer: { readonly httpStatus: number; readonly retryAfterSeconds: number | undefined },
): ApiFault {
  const { httpStatus, retryAfterSeconds } = answer;
  return new ApiFault(httpStatus, code, message, { codeN: gatewayCodes[code][0], retryAfterSeconds });
}
