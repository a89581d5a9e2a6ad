const minute = 60_000;
const mostRemembered = 1_000;

/** Lets the first of many alike through, and then one a minute: a guest that asks in vain asks every few seconds. */
export class OncePerMinute {
  readonly #last = new Map<string, number>();

  isDue(what: string, now: number = performance.now()): boolean {
    const last = this.#last.get(what);
    if (last !== undefined && now - last < minute) return false;
    // A guest that makes MACs up does not fill the memory.
    if (this.#last.size >= mostRemembered) this.#last.clear();
    this.#last.set(what, now);
    return true;
  }
}
