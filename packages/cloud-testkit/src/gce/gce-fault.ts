/** Why the API refuses: `errors[].reason` of the JSON body, with its HTTP status (facts §1.6). */
const statuses = {
  invalid: 400,
  badRequest: 400,
  required: 400,
  resourceNotReady: 400,
  authError: 401,
  forbidden: 403,
  insufficientPermissions: 403,
  rateLimitExceeded: 403,
  quotaExceeded: 403,
  limitExceeded: 400,
  notFound: 404,
  conditionNotMet: 412,
  backendError: 503,
  internalError: 500,
} as const;

export const faultReasons: ReadonlySet<string> = new Set(Object.keys(statuses));

export type FaultReason = keyof typeof statuses;

/** An error answer of the API. */
export class GceFault extends Error {
  readonly httpStatus: number;
  readonly reason: FaultReason;
  /** `google.rpc` details, e.g. an ErrorInfo; which errors carry them is not documented (facts §6). */
  readonly details: readonly Readonly<Record<string, unknown>>[];
  /** What the `Retry-After` header says, if it is sent. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    reason: FaultReason,
    message: string,
    options: {
      readonly httpStatus?: number;
      readonly details?: GceFault["details"];
      readonly retryAfterSeconds?: number | undefined;
    } = {},
  ) {
    super(message);
    this.name = "GceFault";
    this.reason = reason;
    this.httpStatus = options.httpStatus ?? statuses[reason];
    this.details = options.details ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get body(): unknown {
    const { reason, message, httpStatus, details } = this;
    const location = reason === "conditionNotMet" ? { location: "If-Match", locationType: "header" } : {};
    return {
      error: {
        code: httpStatus,
        message,
        errors: [{ message, domain: "global", reason, ...location }],
        ...(details.length === 0 ? {} : { details }),
      },
    };
  }
}

/** `The resource 'projects/p/…' was not found` */
export function notFound(path: string): GceFault {
  return new GceFault("notFound", `The resource '${path}' was not found`);
}

/** Facts §2.1. */
export function staleFingerprint(): GceFault {
  return new GceFault("conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.");
}

export function isFaultReason(text: string): text is FaultReason {
  return faultReasons.has(text);
}

export function invalidField(field: string, value: string, why: string): GceFault {
  return new GceFault("invalid", `Invalid value for field '${field}': '${value}'. ${why}`);
}
