import type { CloudCall, NodeStatus } from "@cocoon-net/core";

/** Upper bounds, in seconds, of the classes that the time from silence to free is counted in. */
export const reclaimSecondsBounds: readonly number[] = [
  30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 86_400,
];

export interface Histogram {
  /** Observations up to each bound, those below it included; the last is the count of all. */
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
  readonly count: number;
  readonly sum: number;
}

/** What one controller knows, as plain numbers. What only a leader knows is empty or zero elsewhere. */
export interface ControllerMetrics {
  readonly leading: boolean;
  /** Nodes that own a subnet, by status. */
  readonly nodes: Readonly<Partial<Record<NodeStatus, number>>>;
  readonly slots: {
    readonly total: number;
    readonly owned: number;
    readonly quarantined: number;
    readonly free: number;
  };
  /** Seconds from the silence of a node to its block being free, as far as it was seen, of the blocks that this controller has freed. */
  readonly reclaimSeconds: Histogram;
  readonly intents: readonly {
    readonly kind: string;
    readonly step: string;
    readonly count: number;
    /** Of the oldest, in seconds since this controller has seen it. */
    readonly oldestSeconds: number;
  }[];
  readonly movedAddresses: number;
  /** Requests to clouds, by platform and action. */
  readonly cloudCalls: readonly {
    readonly platform: string;
    readonly action: string;
    readonly result: CloudCall["result"];
    readonly count: number;
  }[];
  /** What the last standing check found that a repair could mend, and what it could not. */
  readonly findings: { readonly repairable: number; readonly others: number };
  /** Done by repairs of this controller. */
  readonly repaired: number;
  readonly breakerOpen: boolean;
  readonly paused: boolean;
  readonly recovering: boolean;
  /** How long the leader's own last write took to come back to it by its watch. Undefined before the first. */
  readonly watchLagSeconds: number | undefined;
}

/** What a term of leadership can tell at any moment. */
export type TermMetrics = Pick<
  ControllerMetrics,
  "nodes" | "slots" | "intents" | "movedAddresses" | "findings" | "breakerOpen" | "paused" | "recovering"
>;

const noTerm: TermMetrics = {
  nodes: {},
  slots: { total: 0, owned: 0, quarantined: 0, free: 0 },
  intents: [],
  movedAddresses: 0,
  findings: { repairable: 0, others: 0 },
  breakerOpen: false,
  paused: false,
  recovering: false,
};

/** Counts what happens; belongs to one controller for its life. */
export class Meters {
  readonly #calls = new Map<string, { call: CloudCall; count: number }>();
  readonly #counts = new Array<number>(reclaimSecondsBounds.length + 1).fill(0);
  #sum = 0;
  #repaired = 0;
  #lag: number | undefined;
  /** Of the term that runs. */
  term: (() => TermMetrics) | undefined;

  countCall(call: CloudCall): void {
    const key = `${call.platform} ${call.action} ${call.result}`;
    const known = this.#calls.get(key);
    if (known) known.count += 1;
    else this.#calls.set(key, { call, count: 1 });
  }

  countReclaim(seconds: number): void {
    const index = reclaimSecondsBounds.findIndex((bound) => seconds <= bound);
    const bucket = index < 0 ? reclaimSecondsBounds.length : index;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += seconds;
  }

  countRepair(): void {
    this.#repaired += 1;
  }

  noteLag(ms: number): void {
    this.#lag = ms / 1_000;
  }

  snapshot(): ControllerMetrics {
    return {
      leading: this.term !== undefined,
      ...(this.term?.() ?? noTerm),
      reclaimSeconds: this.#histogram(),
      cloudCalls: [...this.#calls.values()].map(({ call, count }) => ({
        platform: call.platform,
        action: call.action,
        result: call.result,
        count,
      })),
      repaired: this.#repaired,
      watchLagSeconds: this.#lag,
    };
  }

  #histogram(): Histogram {
    let count = 0;
    const buckets = [...reclaimSecondsBounds, Number.POSITIVE_INFINITY].map((upTo, index) => {
      count += this.#counts[index] ?? 0;
      return { upTo, count };
    });
    return { buckets, count, sum: this.#sum };
  }
}
