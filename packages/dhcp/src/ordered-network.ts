import { UnavailableError } from "@cocoon-net/core";
import type { LeaseNetwork } from "./ports.ts";

/**
 * A network whose calls about the routes of one address run one after the other, in the order in which they were
 * made, each with a deadline. So the removal after an expiry cannot overtake the renewal that came after it.
 */
export class OrderedNetwork implements LeaseNetwork {
  readonly #network: LeaseNetwork;
  readonly #deadlines: Deadlines;
  readonly #last = new Map<string, Promise<void>>();

  constructor(network: LeaseNetwork, timeoutMs: number) {
    this.#network = network;
    this.#deadlines = new Deadlines(timeoutMs);
  }

  addRoute(ip: string): Promise<void> {
    return this.#inOrder(ip, () => this.#network.addRoute(ip));
  }

  /** @returns what went wrong, by address; never rejects */
  async addRoutes(ips: readonly string[]): Promise<ReadonlyMap<string, unknown>> {
    const failures = new Map<string, unknown>();
    const addAll = this.#network.addRoutes?.bind(this.#network);
    const waiting = addAll === undefined ? ips : ips.filter((ip) => this.#last.has(ip));
    const work: Promise<void>[] = waiting.map((ip) =>
      this.addRoute(ip).catch((error: unknown) => void failures.set(ip, error)),
    );
    if (addAll !== undefined && waiting.length < ips.length) {
      const free = waiting.length === 0 ? ips : ips.filter((ip) => !waiting.includes(ip));
      const together = this.#deadlines
        .limit(async () => {
          for (const [ip, error] of await addAll(free)) failures.set(ip, error);
        })
        .catch((error: unknown) => {
          for (const ip of free) failures.set(ip, error);
        });
      for (const ip of free) this.#last.set(ip, together);
      work.push(
        together.then(() => {
          for (const ip of free) if (this.#last.get(ip) === together) this.#last.delete(ip);
        }),
      );
    }
    await Promise.all(work);
    return failures;
  }

  removeRoute(ip: string): Promise<void> {
    return this.#inOrder(ip, () => this.#network.removeRoute(ip));
  }

  setNeighbour(ip: string, mac: string): Promise<void> {
    return this.#deadlines.limit(() => this.#network.setNeighbour(ip, mac));
  }

  #inOrder(ip: string, call: () => Promise<void>): Promise<void> {
    const limited = (): Promise<void> => this.#deadlines.limit(call);
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

interface Limited {
  readonly at: number;
  readonly reject: (error: unknown) => void;
}

/** Deadlines that all lie equally far ahead: the oldest is the next, so one timer does for all. */
class Deadlines {
  readonly #timeoutMs: number;
  readonly #pending = new Set<Limited>();
  #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  limit(call: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const limited: Limited = { at: performance.now() + this.#timeoutMs, reject };
      this.#pending.add(limited);
      this.#timer ??= setTimeout(() => this.#expire(), this.#timeoutMs);
      const settle = (): void => {
        this.#pending.delete(limited);
        if (this.#pending.size > 0) return;
        clearTimeout(this.#timer);
        this.#timer = undefined;
      };
      call().then(
        () => {
          settle();
          resolve();
        },
        (error: unknown) => {
          settle();
          reject(error);
        },
      );
    });
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const limited of this.#pending) {
      if (limited.at > now) {
        this.#timer = setTimeout(() => this.#expire(), limited.at - now);
        return;
      }
      this.#pending.delete(limited);
      const message = `the kernel did not answer within ${this.#timeoutMs} ms`;
      limited.reject(new UnavailableError(message, { outcome: "unknown" }));
    }
  }
}
