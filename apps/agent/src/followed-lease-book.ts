import type { LeaseRecord, PoolUse } from "@cocoon-net/core";
import { followLeasesFile, type LeasesSnapshot } from "@cocoon-net/dhcp";
import type { LeaseBook } from "./lease-book.ts";
import type { Logger } from "./log.ts";
import type { PoolFile } from "./state-directory.ts";

/** The leases of a DHCP server beside this agent, as its file tells them. */
export class FollowedLeaseBook implements LeaseBook {
  readonly whenLost: string = "the DHCP server beside this agent cannot be stopped from here: stop it";
  readonly #pool: PoolFile;
  readonly #stop = new AbortController();
  readonly #leases = new Map<string, LeaseRecord>();
  /** Whether the file was read whole once: before that, what is not in `#leases` may be leased all the same. */
  #complete = false;
  #following: Promise<void> = Promise.resolve();
  #listener: (address: string, lease: LeaseRecord | undefined) => void = () => {};

  private constructor(pool: PoolFile) {
    this.#pool = pool;
  }

  /** Resolves once the file was read, or after a second without it: a file that comes later is no error. */
  static async start(path: string, pool: PoolFile, log: Logger): Promise<FollowedLeaseBook> {
    const book = new FollowedLeaseBook(pool);
    const first = Promise.withResolvers<void>();
    book.#following = book.#follow(path, log, first.resolve);
    const timer = setTimeout(first.resolve, 1_000);
    await first.promise;
    clearTimeout(timer);
    return book;
  }

  leases(): ReadonlyMap<string, LeaseRecord> {
    return this.#leases;
  }

  use(): PoolUse {
    const size = this.#pool.ips.length;
    return { size, leased: this.#leases.size, free: Math.max(0, size - this.#leases.size) };
  }

  async adopt(stored: ReadonlyMap<string, LeaseRecord>): Promise<number> {
    // The file is the truth. Until it has been read whole, what the store says stays (G8); it is compared then.
    if (this.#complete) return 0;
    let adopted = 0;
    for (const [address, lease] of stored) {
      if (lease.node !== this.#pool.nodeName || this.#leases.has(address)) continue;
      this.#leases.set(address, lease);
      adopted++;
    }
    return adopted;
  }

  setGranting(): void {
    // The other server grants as it sees fit; `status` and the documentation say so.
  }

  setLeaseTime(): void {
    // Its own.
  }

  async withdraw(): Promise<void> {
    // Its routes are the other server's.
  }

  onChange(listener: (address: string, lease: LeaseRecord | undefined) => void): void {
    this.#listener = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
  }

  async #follow(path: string, log: Logger, onFirst: () => void): Promise<void> {
    const onProblem = (problem: string): void => log.warn({ path }, problem);
    for await (const snapshot of followLeasesFile(path, { signal: this.#stop.signal, onProblem })) {
      this.#apply(snapshot);
      onFirst();
    }
  }

  #apply({ leases, complete }: LeasesSnapshot): void {
    const present = new Set<string>();
    for (const { ip, mac, expiry } of leases) {
      present.add(ip);
      // That server numbers nothing; the second its lease ends grows with each renewal, so it serves as number.
      const record: LeaseRecord = {
        node: this.#pool.nodeName,
        mac,
        expiry: new Date(expiry).toISOString(),
        seq: Math.floor(expiry / 1_000),
      };
      const known = this.#leases.get(ip);
      if (known?.mac === mac && known.expiry === record.expiry) continue;
      this.#leases.set(ip, record);
      this.#listener(ip, record);
    }
    // A file with entries that do not parse is no proof that the others ended (G8).
    if (!complete) return;
    this.#complete = true;
    for (const ip of [...this.#leases.keys()].filter((address) => !present.has(address))) {
      this.#leases.delete(ip);
      this.#listener(ip, undefined);
    }
  }
}
