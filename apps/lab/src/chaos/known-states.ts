/** What something was, one state after the other; when exactly each began is only known to lie between two moments. */
export class KnownStates<T> {
  readonly #changes: readonly Change<T>[];

  /** @param changes in their order */
  constructor(changes: readonly Change<T>[]) {
    this.#changes = changes;
  }

  /** Each that it may have been at some moment of that time; before the first change that is `undefined`. */
  possible(from: number, until: number): (T | undefined)[] {
    const states: (T | undefined)[] = [];
    let state: T | undefined;
    let since = Number.NEGATIVE_INFINITY;
    for (const { notBefore, at, value } of this.#changes) {
      if (since <= until && at > from) states.push(state);
      state = value;
      since = notBefore;
    }
    if (since <= until) states.push(state);
    return states;
  }
}

export interface Change<T> {
  readonly notBefore: number;
  readonly at: number;
  readonly value: T | undefined;
}
