/** What a wait ends with when its time is over. */
export class DeadlineError extends Error {
  constructor(timeoutMs: number) {
    super(`no answer within ${timeoutMs} ms`);
    this.name = "DeadlineError";
  }
}

/** What ends a wait early, with the reason. */
export type End = (reason: unknown) => void;

/**
 * Runs `work` until it settles, `timeoutMs` is over ({@link DeadlineError}), `signal` aborts (its reason), or the `End`
 * that is kept in `ends` meanwhile is called. `work` is not waited for after that; `check` then throws the reason, and
 * it must start nothing new. Every call pays for this, hence no signals inside.
 */
export function withDeadline<T>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  work: (check: () => void) => Promise<T>,
  ends?: Set<End>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    signal?.throwIfAborted();
    let over: { readonly reason: unknown } | undefined;
    const release = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      ends?.delete(end);
    };
    const end: End = (reason) => {
      over = { reason };
      release();
      reject(reason);
    };
    const onAbort = () => end(signal?.reason);
    const timer = setTimeout(() => end(new DeadlineError(timeoutMs)), timeoutMs);
    signal?.addEventListener("abort", onAbort);
    ends?.add(end);
    const check = () => {
      if (over !== undefined) throw over.reason;
    };
    work(check).then(
      (result) => {
        release();
        resolve(result);
      },
      (error: unknown) => {
        release();
        reject(error);
      },
    );
  });
}
