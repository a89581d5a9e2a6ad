/**
 * An error answer of the API (facts §2.13). Gateway errors carry a `CodeN`, business errors mostly only a
 * `Code`.
 */
export class ApiFault extends Error {
  readonly httpStatus: number;
  readonly code: string;
  readonly codeN: number | undefined;

  constructor(httpStatus: number, code: string, message: string, codeN?: number) {
    super(message);
    this.name = "ApiFault";
    this.httpStatus = httpStatus;
    this.code = code;
    this.codeN = codeN;
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
  FlowLimitExceeded: [100018, 429],
  MethodNotAllowed: [100020, 405],
} as const;

/** An error of the gateway in front of every service (facts §2.13, second table). */
export function gatewayFault(code: keyof typeof gatewayCodes, message: string): ApiFault {
  const [codeN, httpStatus] = gatewayCodes[code];
  return new ApiFault(httpStatus, code, message, codeN);
}
