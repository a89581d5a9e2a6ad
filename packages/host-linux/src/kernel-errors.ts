import { getSystemErrorName } from "node:util";
import { AuthError, CocoonError, ConflictError, NotFoundError, UnavailableError } from "@cocoon-net/core";

/** `ENODEV` for 19; the number itself when it has no name. */
export function errnoName(errno: number): string {
  try {
    const name = getSystemErrorName(-errno);
    // Two names for 95; Linux answers in the sense of this one, and Node knows the other.
    return name === "ENOTSUP" ? "EOPNOTSUPP" : name;
  } catch {
    return `errno ${errno}`;
  }
}

/** A system call that failed. */
export class SystemCallError extends Error {
  /** Errno name. */
  readonly code: string;

  constructor(call: string, code: string) {
    super(`${call}: ${code}`);
    this.name = "SystemCallError";
    this.code = code;
  }
}

const NOT_FOUND: ReadonlySet<string> = new Set(["ENOENT", "ENODEV", "ENXIO", "ESRCH", "EADDRNOTAVAIL"]);
const CONFLICT: ReadonlySet<string> = new Set(["EEXIST", "EADDRINUSE", "EBUSY"]);
const TRANSIENT: ReadonlySet<string> = new Set(["ENOBUFS", "ENOMEM", "EAGAIN", "EINTR"]);

export interface KernelErrorDetails {
  /** What the kernel said in words. */
  readonly reason?: string | undefined;
  /** What the operator can do. */
  readonly hint?: string | undefined;
}

/**
 * What the kernel answered, as one line and in the classes of core.
 *
 * @param what what was tried, on what: `add route 10.0.0.7/32 dev cni0`
 * @param code errno name
 */
export function kernelError(what: string, code: string, details: KernelErrorDetails = {}): CocoonError {
  const { reason, hint } = details;
  const message = `${what}: ${code}${reason === undefined ? "" : ` (${reason})`}`;
  const options = hint === undefined ? {} : { hint };
  if (code === "EPERM" || code === "EACCES") {
    return new AuthError(message, { hint: hint ?? "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW" });
  }
  if (NOT_FOUND.has(code)) return new NotFoundError(message, options);
  if (CONFLICT.has(code)) return new ConflictError(message, options);
  if (TRANSIENT.has(code)) return new UnavailableError(message, { ...options, outcome: "none" });
  return new CocoonError("kernel", message, options);
}

/** The errno name of an error that Node raised; undefined for anything else. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
