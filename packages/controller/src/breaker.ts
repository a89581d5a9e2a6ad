export interface BreakerSettings {
  /** Trips when more than this share of the nodes … */
  readonly breakerShare: number;
  /** … and at least so many … */
  readonly breakerNodes: number;
  /** … fell silent within this time. */
  readonly breakerWindowMs: number;
}

/** What the breaker needs to know of one owner of a subnet. */
export interface BreakerNode {
  readonly node: string;
  /** Silent, and suspect, or beyond that on the way to being reclaimed. */
  readonly troubled: boolean;
}

/**
 * Mass silence is our problem, not the nodes' (G13). Trips when a burst of nodes turns suspect, and stays open
 * until few enough are troubled: a window that has merely passed proves nothing about the nodes. Pure; times are
 * monotonic milliseconds. A new leader counts every suspect it finds as new, which errs on the safe side.
 */
export class Breaker {
  readonly #since = new Map<string, number>();
  #open = false;

  get open(): boolean {
    return this.#open;
  }

  /** How many nodes are troubled, of how many. For messages. */
  get counts(): { readonly troubled: number; readonly nodes: number } {
    return { troubled: this.#since.size, nodes: this.#nodes };
  }
  #nodes = 0;

  /** True when that changed whether the breaker is open. */
  update(nodes: Iterable<BreakerNode>, settings: BreakerSettings, now: number): boolean {
    const owners = new Set<string>();
    for (const { node, troubled } of nodes) {
      owners.add(node);
      if (!troubled) this.#since.delete(node);
      else if (!this.#since.has(node)) this.#since.set(node, now);
    }
    let recent = 0;
    for (const [node, since] of this.#since) {
      if (now - since < settings.breakerWindowMs) recent += 1;
      // Reclaimed within the window: it still belongs to the burst.
      else if (!owners.has(node)) this.#since.delete(node);
    }
    const gone = [...this.#since.keys()].filter((node) => !owners.has(node)).length;
    this.#nodes = owners.size + gone;
    const counted = this.#open ? this.#since.size : recent;
    const open = counted >= settings.breakerNodes && counted > settings.breakerShare * this.#nodes;
    const changed = open !== this.#open;
    this.#open = open;
    return changed;
  }
}
