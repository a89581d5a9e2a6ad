/** Counts of requests, by action and by what became of them. */
export type CallCounts = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Counts the requests of a simulator. */
export class CallLog {
  readonly #arrived = new Map<string, number>();
  readonly #ended = new Map<string, Map<string, number>>();

  /** Counted when it comes in: also while it hangs. */
  arrived(action: string): void {
    this.#arrived.set(action, (this.#arrived.get(action) ?? 0) + 1);
  }

  /** @param result `ok`, the vendor's code of a refusal, an HTTP status, `lost` or `hang` */
  ended(action: string, result: string): void {
    const results = this.#ended.get(action) ?? new Map<string, number>();
    this.#ended.set(action, results.set(result, (results.get(result) ?? 0) + 1));
  }

  get byAction(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#arrived);
  }

  get byResult(): CallCounts {
    return Object.fromEntries(
      [...this.#ended].map(([action, results]) => [action, Object.fromEntries(results)]),
    );
  }
}
