/** What a wait ends with when its time is over. */
export class DeadlineError extends Error {
  constructor(timeoutMs: number) {
    super(`no answer within ${timeoutMs} ms`);
    this.name = "DeadlineError";
  }
}

/**
 * Runs `work` until it settles, `timeoutMs` is over ({@link DeadlineError}) or one of `signals` aborts (its
 * reason). `work` is not waited for after that; it sees `over` abort and must start nothing new.
 */
export async function withDeadline<T>(
  timeoutMs: number,
  signals: readonly (AbortSignal | undefined)[],
  work: (over: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const ended = Promise.withResolvers<never>();
  const given = signals.filter((signal) => signal !== undefined);
  for (const signal of given) signal.throwIfAborted();
  const end = (reason: unknown) => {
    over.abort(reason);
    ended.reject(reason);
  };
  const listeners = given.map((signal) => ({ signal, onAbort: () => end(signal.reason) }));
  for (const { signal, onAbort } of listeners) signal.addEventListener("abort", onAbort);
  const timer = setTimeout(() => end(new DeadlineError(timeoutMs)), timeoutMs);
  try {
    return await Promise.race([work(over.signal), ended.promise]);
  } finally {
    clearTimeout(timer);
    for (const { signal, onAbort } of listeners) signal.removeEventListener("abort", onAbort);
  }
}
