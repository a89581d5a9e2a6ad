import { contains, type LeaseRecord, type PoolUse, parseAddress, parseCidr } from "@cocoon-net/core";
import {
  type FollowedLeases,
  followLeasesFile,
  type LeaseFileFormat,
  leaseFileFormat,
  leaseFileFormatNames,
} from "@cocoon-net/dhcp";
import { UsageError, usage } from "./failure.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Logger } from "./log.ts";
import type { PoolFile } from "./state-directory.ts";

/** The file of a DHCP server beside this agent. */
export interface LeaseFile {
  readonly path: string;
  /** Undefined: as its text says. */
  readonly format: LeaseFileFormat | undefined;
}

/** `builtin`, `file:PATH` or `file:FORMAT:PATH`. @returns undefined for the built-in server @throws {UsageError} */
export function parseLeaseSource(source: string): LeaseFile | undefined {
  if (source === "builtin") return undefined;
  const [, name, path] = /^file:(?:([a-z]+):)?(.+)$/.exec(source) ?? [];
  if (path !== undefined)
    return { path, format: name === undefined ? undefined : usage(() => leaseFileFormat(name)) };
  throw new UsageError(`--lease-source "${source}" is neither builtin nor file:PATH`, {
    hint: `file:FORMAT:PATH names the format too: ${leaseFileFormatNames.join(", ")}`,
  });
}

/** The leases of a DHCP server beside this agent, as its file tells them. */
export class FollowedLeaseBook implements LeaseBook {
  readonly whenLost: string = "the DHCP server beside this agent cannot be stopped from here: stop it";
  readonly #pool: PoolFile;
  readonly #stop = new AbortController();
  readonly #leases = new Map<string, LeaseRecord>();
  readonly #log: Logger;
  /** Ends leases that are not in a file that may be a part of one, when their time is over. */
  #ending: NodeJS.Timeout | undefined;
  #outside = "";
  /** Whether the file was read whole once: before that, what is not in `#leases` may be leased all the same. */
  #complete = false;
  #following: Promise<void> = Promise.resolve();
  #listener: (address: string, lease: LeaseRecord | undefined) => void = () => {};

  private constructor(pool: PoolFile, log: Logger) {
    this.#pool = pool;
    this.#log = log;
  }

  /** Resolves once the file was read, or after a second without it: a file that comes later is no error. */
  static async start(file: LeaseFile, pool: PoolFile, log: Logger): Promise<FollowedLeaseBook> {
    const book = new FollowedLeaseBook(pool, log);
    const first = Promise.withResolvers<void>();
    book.#following = book.#follow(file, first.resolve);
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
    clearTimeout(this.#ending);
    await this.#following;
  }

  async #follow({ path, format }: LeaseFile, onFirst: () => void): Promise<void> {
    const onProblem = (problem: string): void => this.#log.warn({ path }, problem);
    const options = { signal: this.#stop.signal, onProblem, ...(format ? { format } : {}) };
    for await (const leases of followLeasesFile(path, options)) {
      this.#apply(leases);
      onFirst();
    }
  }

  #apply({ leases, complete }: FollowedLeases): void {
    const subnet = parseCidr(this.#pool.subnet);
    const present = new Set<string>();
    const outside: string[] = [];
    for (const { ip, mac, expiry, hostname } of leases) {
      if (!contains(subnet, { base: parseAddress(ip), prefix: 32 })) {
        outside.push(ip);
        continue;
      }
      present.add(ip);
      // That server numbers nothing; the second its lease ends grows with each renewal, so it serves as number.
      const record: LeaseRecord = {
        node: this.#pool.nodeName,
        mac,
        expiry: new Date(expiry).toISOString(),
        seq: Math.floor(expiry / 1_000),
        ...(hostname === undefined ? {} : { hostname }),
      };
      const known = this.#leases.get(ip);
      if (known?.mac === mac && known.expiry === record.expiry && known.hostname === hostname) continue;
      this.#leases.set(ip, record);
      this.#log.info({ mac, ip, expiry: record.expiry }, "lease followed");
      this.#listener(ip, record);
    }
    // Another subnet's addresses are not this node's to speak of.
    if (outside.length > 0 && outside.join() !== this.#outside) {
      this.#log.warn({ addresses: outside }, `leases outside ${this.#pool.subnet} are not mirrored`);
    }
    this.#outside = outside.join();
    if (complete) this.#complete = true;
    this.#endAbsent(present, complete);
  }

  /** A file that may be a part of one is no proof that what it lacks ended (G8); then only its own time ends a lease. */
  #endAbsent(present: ReadonlySet<string>, complete: boolean): void {
    clearTimeout(this.#ending);
    let next = Number.POSITIVE_INFINITY;
    for (const [ip, { mac, expiry }] of this.#leases) {
      if (present.has(ip)) continue;
      const until = Date.parse(expiry);
      if (complete || until <= Date.now()) {
        this.#leases.delete(ip);
        this.#log.info({ mac, ip }, "lease ended");
        this.#listener(ip, undefined);
      } else next = Math.min(next, until);
    }
    if (next === Number.POSITIVE_INFINITY) return;
    const waitMs = Math.min(next - Date.now(), maxTimerMs);
    this.#ending = setTimeout(() => this.#endAbsent(present, false), waitMs).unref();
  }
}

/** Longer ones Node ends at once. */
const maxTimerMs = 2 ** 31 - 1;
