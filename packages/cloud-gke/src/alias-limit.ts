import { ExhaustedError } from "@cocoon-net/core";
import type { LimitError } from "./api-errors.ts";

/**
 * How many alias ranges an interface may have. The vendor has published 1, 10 and 150 over the years and says it
 * nowhere in the API, so it is a setting that a refusal corrects downwards.
 */
export class AliasLimit {
  #perNIC: number;

  constructor(perNIC: number) {
    this.#perNIC = perNIC;
  }

  get perNIC(): number {
    return this.#perNIC;
  }

  /** The API has refused so many on one interface. */
  refused(count: number, { limit = count - 1 }: LimitError): void {
    this.#perNIC = Math.max(1, Math.min(this.#perNIC, limit));
  }

  /** The error when an interface that has so many would have more than it may. */
  excess(name: string, has: number, needs: number): ExhaustedError | undefined {
    if (needs <= this.#perNIC || needs <= has) return undefined;
    return new ExhaustedError(
      `the interface of ${name} has ${has} alias ranges and would have ${needs}, of at most ${this.#perNIC}`,
      {
        hint: "move addresses back, or set COCOON_NET_GCE_ALIAS_RANGES_PER_NIC if more are allowed by now",
      },
    );
  }
}
