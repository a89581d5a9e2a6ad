/** A rule for going wrong on purpose. */
export interface FaultRule {
  /** An action's name; left out = every action that changes something. */
  readonly action?: string;
  /** How many matching requests it hits. Default 1. */
  readonly times?: number;
  /** How many matching requests pass before the first hit. Default 0. */
  readonly after?: number;
  /**
   * `throttle`: refused as too many, not applied. `error5xx`: an HTML 502, not applied.
   * `lost-answer`: applied, but the connection closes without an answer. `hang`: neither applied nor answered.
   * `empty-list`: a list answers cleanly, but shows nothing.
   */
  readonly kind: "throttle" | "error5xx" | "lost-answer" | "hang" | "empty-list";
}

export class Faults {
  readonly #isRead: (action: string) => boolean;
  #rules: { rule: FaultRule; skip: number; left: number }[] = [];

  constructor(isRead: (action: string) => boolean) {
    this.#isRead = isRead;
  }

  add(rule: FaultRule): void {
    this.#rules.push({ rule, skip: rule.after ?? 0, left: rule.times ?? 1 });
  }

  clear(): void {
    this.#rules = [];
  }

  /** The fault that hits this request; counts it as hit. */
  take(action: string): FaultRule["kind"] | undefined {
    for (const entry of this.#rules) {
      if (entry.left === 0 || (entry.rule.action ?? action) !== action) continue;
      if (entry.rule.action === undefined && this.#isRead(action)) continue;
      if (entry.skip > 0) {
        entry.skip--;
        continue;
      }
      entry.left--;
      return entry.rule.kind;
    }
    return undefined;
  }
}
