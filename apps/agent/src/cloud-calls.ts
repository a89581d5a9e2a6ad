import type { CloudCall } from "@cocoon-net/core";
import { type Histogram, histogram, inner } from "./exposition.ts";

/** Upper bounds in seconds. A request takes less than the first few, a wait for the budget may take the rest. */
const bounds = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, Number.POSITIVE_INFINITY];

/** How long the requests to clouds took, and waited, by platform, action and result. */
export class CloudCallTimes {
  readonly #took = new Map<string, Times>();
  readonly #waited = new Map<string, Times>();

  add({ platform, action, result, tookMs, waitedMs }: CloudCall): void {
    timesOf(this.#took, inner({ platform, action, result })).add(tookMs / 1_000);
    timesOf(this.#waited, inner({ platform, action })).add(waitedMs / 1_000);
  }

  render(): string {
    return [
      histogram(
        "cocoon_net_cloud_request_seconds",
        "Requests to clouds by action and result, from sending to the answer.",
        Object.fromEntries(this.#took),
      ),
      histogram(
        "cocoon_net_cloud_budget_wait_seconds",
        "What requests to clouds waited for the budget.",
        Object.fromEntries(this.#waited),
      ),
    ].join("");
  }
}

class Times implements Histogram {
  readonly #counts: number[] = bounds.map(() => 0);
  sum = 0;

  get count(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  get buckets(): { readonly upTo: number; readonly count: number }[] {
    let count = 0;
    return bounds.map((upTo, index) => {
      count += this.#counts[index] ?? 0;
      return { upTo, count };
    });
  }

  add(seconds: number): void {
    const index = bounds.findIndex((bound) => seconds <= bound);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.sum += seconds;
  }
}

function timesOf(all: Map<string, Times>, key: string): Times {
  const times = all.get(key) ?? new Times();
  all.set(key, times);
  return times;
}
