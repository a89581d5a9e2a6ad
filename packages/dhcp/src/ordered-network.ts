import { UnavailableError } from "@cocoon-net/core";
import type { LeaseNetwork } from "./ports.ts";

/**
 * A network whose calls about the routes of one address run one after the other, in the order in which they were
 * made, each with a deadline. So the removal after an expiry cannot overtake the renewal that came after it.
 */
export class OrderedNetwork implements LeaseNetwork {
  readonly #network: LeaseNetwork;
  readonly #timeoutMs: number;
  readonly #last = new Map<string, Promise<void>>();

  constructor(network: LeaseNetwork, timeoutMs: number) {
    this.#network = network;
    this.#timeoutMs = timeoutMs;
  }

  addRoute(ip: string): Promise<void> {
    return this.#inOrder(ip, () => this.#network.addRoute(ip));
  }

  removeRoute(ip: string): Promise<void> {
    return this.#inOrder(ip, () => this.#network.removeRoute(ip));
  }

  setNeighbour(ip: string, mac: string): Promise<void> {
    return withDeadline(() => this.#network.setNeighbour(ip, mac), this.#timeoutMs);
  }

  #inOrder(ip: string, call: () => Promise<void>): Promise<void> {
    const limited = (): Promise<void> => withDeadline(call, this.#timeoutMs);
    const before = this.#last.get(ip);
    const work = before === undefined ? limited() : before.then(limited, limited);
    this.#last.set(ip, work);
    const settled = (): void => {
      if (this.#last.get(ip) === work) this.#last.delete(ip);
    };
    work.then(settled, settled);
    return work;
  }
}

function withDeadline(call: () => Promise<void>, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(
        new UnavailableError(`the kernel did not answer within ${timeoutMs} ms`, { outcome: "unknown" }),
      );
    }, timeoutMs);
    call()
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}
