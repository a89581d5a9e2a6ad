/** How long the driver waits for what, in milliseconds. Tests are less patient. */
export interface Timing {
  /** One HTTP request, from connecting to the last byte. */
  readonly requestMs: number;
  /** One request's wait for the budget. */
  readonly budgetMs: number;
  /** All tries of one call together that got no answer. */
  readonly retryMs: number;
  /** All tries of one call together that were refused because something is in the middle of a change. */
  readonly busyMs: number;
  /** One asynchronous change at the cloud, e.g. Attaching → InUse. */
  readonly changeMs: number;
  /** First and longest pause between polls and retries: fast, then slow. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** One request to the metadata service. */
  readonly metadataMs: number;
  /** Not a time: how many refusals for the rate one call bears. The budget makes the pauses between them. */
  readonly throttledTries: number;
}

export const defaultTiming: Timing = {
  requestMs: 15_000,
  budgetMs: 1_800_000,
  retryMs: 120_000,
  busyMs: 600_000,
  changeMs: 180_000,
  firstPauseMs: 500,
  maxPauseMs: 5_000,
  metadataMs: 1_000,
  throttledTries: 12,
};

/** How many looks may show what was there before a request: lists lag behind. */
export const staleLooks = 6;
