/** How long the driver waits for what, in milliseconds. Tests are less patient. */
export interface Timing {
  /** One HTTP request, from connecting to the last byte. */
  readonly requestMs: number;
  /** One `operations.wait`, which the server holds open for up to two minutes. */
  readonly waitRequestMs: number;
  /** All tries of one call together: more than the minute after which a rate limit is refilled. */
  readonly retryMs: number;
  /** One wait for the budget. */
  readonly budgetMs: number;
  /** One change of an interface or a subnetwork, conflicts with other writers included. */
  readonly changeMs: number;
  /** First and longest pause between retries. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** One request to the metadata server. */
  readonly metadataMs: number;
  /** One request that the metadata server holds open until something changes. */
  readonly watchMs: number;
}

export const defaultTiming: Timing = {
  requestMs: 30_000,
  waitRequestMs: 150_000,
  retryMs: 240_000,
  budgetMs: 1_800_000,
  changeMs: 600_000,
  firstPauseMs: 500,
  maxPauseMs: 10_000,
  metadataMs: 1_000,
  // As the guest agent does.
  watchMs: 60_000,
};

/** The pauses between retries, as core's `Pauses` takes them. */
export function retryPauses(
  timing: Timing,
  totalMs: number,
  signal: AbortSignal | undefined,
): { firstMs: number; maxMs: number; totalMs: number; signal: AbortSignal | undefined } {
  return { firstMs: timing.firstPauseMs, maxMs: timing.maxPauseMs, totalMs, signal };
}
