/** What a failed call may have left behind: `none` = certainly not applied, `unknown` = it may have been. */
export type Outcome = "none" | "unknown";

export interface CocoonErrorOptions extends ErrorOptions {
  /** What the operator can do, one sentence. */
  readonly hint?: string;
}

/**
 * Base of every error that cocoon-net raises on purpose. `code` is stable and safe to switch on; `message`
 * is one line that says what was tried, on what, and what came back; `hint` says what to do.
 */
export class CocoonError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: CocoonErrorOptions & { retryable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.hint = options.hint;
  }
}

/** Input that can never work as given: a malformed CIDR, a subnet outside the parent, an unknown option. */
export class InvalidError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("invalid", message, options);
  }
}

/** The state that was found contradicts the request: a name that is taken, a subnet that somebody owns. */
export class ConflictError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("conflict", message, options);
  }
}

/** There is no room: no free slot in the parent CIDR, no free address, a quota is reached. */
export class ExhaustedError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("exhausted", message, options);
  }
}

/** The thing that was named does not exist. */
export class NotFoundError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("not-found", message, options);
  }
}

/** What the caller believed to own has gone to somebody else (G3). Never retried: stop, look again. */
export class FencedError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("fenced", message, options);
  }
}

/** Data that was read is damaged or of a shape this version does not know. */
export class CorruptError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("corrupt", message, options);
  }
}

/** The other side could not be reached or did not answer in time. */
export class UnavailableError extends CocoonError {
  /** Whether a write may have been applied although no answer came. */
  readonly outcome: Outcome;

  constructor(message: string, options: CocoonErrorOptions & { outcome: Outcome }) {
    super("unavailable", message, { ...options, retryable: true });
    this.outcome = options.outcome;
  }
}

/** The other side refused the credentials or their permissions. Not an outage: retrying does not help. */
export class AuthError extends CocoonError {
  constructor(message: string, options: CocoonErrorOptions = {}) {
    super("auth", message, options);
  }
}

/** The other side asks to be called less often. */
export class ThrottledError extends CocoonError {
  /** How long to wait before the next try, when the other side said so. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: CocoonErrorOptions & { retryAfterMs?: number } = {}) {
    super("throttled", message, { ...options, retryable: true });
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** One line for people: message, and what to do. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { hint } = error instanceof CocoonError ? error : {};
  // A server's own words may end in a full stop.
  const line = hint === undefined ? error.message : `${error.message.replace(/\s*\.?\s*$/, "")}; ${hint}`;
  return line.replaceAll(/\s*\n\s*/g, " ");
}

// A driver that was installed apart from the command brings a copy of this package of its own. `instanceof` knows the
// errors of that too, by their code; a class that is derived from one of these goes by its prototype, as ever.
const mark: unique symbol = Symbol.for("@cocoon-net/core/error");
Object.defineProperty(CocoonError.prototype, mark, { value: true });

const codes = new Map<object, string | undefined>([
  [CocoonError, undefined],
  [InvalidError, "invalid"],
  [ConflictError, "conflict"],
  [ExhaustedError, "exhausted"],
  [NotFoundError, "not-found"],
  [FencedError, "fenced"],
  [CorruptError, "corrupt"],
  [UnavailableError, "unavailable"],
  [AuthError, "auth"],
  [ThrottledError, "throttled"],
]);
for (const [type, code] of codes) {
  Object.defineProperty(type, Symbol.hasInstance, {
    value(this: unknown, value: unknown): boolean {
      if (Function.prototype[Symbol.hasInstance].call(this, value)) return true;
      if (this !== type || !(value instanceof Error && mark in value && "code" in value)) return false;
      return code === undefined || value.code === code;
    },
  });
}
