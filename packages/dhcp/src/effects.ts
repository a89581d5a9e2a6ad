import { type Address, parseAddress } from "@cocoon-net/core";
import type { Expired } from "./bindings.ts";
import type { Journal } from "./journal.ts";
import type { AddressRecord, Lease } from "./lease.ts";
import type { LeasesFile } from "./leases-file.ts";
import type { OrderedNetwork } from "./ordered-network.ts";
import type { ServerEvent } from "./ports.ts";

const routesAtOnce = 64;

export interface EffectsOptions {
  readonly journal: Journal;
  readonly leasesFile: LeasesFile;
  readonly network: OrderedNetwork;
  readonly onEvent: (event: ServerEvent) => void;
}

/** What follows from a decision besides the reply: the journal, `leases.json`, routes and events. */
export class Effects {
  readonly #journal: Journal;
  readonly #leasesFile: LeasesFile;
  readonly #network: OrderedNetwork;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #running = new Set<Promise<void>>();
  #journalFailing = false;

  constructor(options: EffectsOptions) {
    this.#journal = options.journal;
    this.#leasesFile = options.leasesFile;
    this.#network = options.network;
    this.#onEvent = options.onEvent;
  }

  tell(event: ServerEvent): void {
    this.#onEvent(event);
  }

  problem(message: string, error: unknown): void {
    this.#onEvent({ type: "problem", message, error });
  }

  /** Looks after work that nobody waits for. */
  run(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.problem("a message could not be served", error))
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** Resolves when some of the work that is under way has ended. */
  async someDone(): Promise<void> {
    await Promise.race(this.#running);
  }

  async allDone(): Promise<void> {
    while (!this.isIdle) await Promise.all(this.#running);
  }

  /** The lease of the address began, changed or ended. */
  touch(address: Address): void {
    this.#leasesFile.touch(address);
  }

  /** Journals what needs no acknowledgement. Lost to a crash, it costs an address its early reuse, no more. */
  write(records: readonly AddressRecord[]): void {
    this.run(this.written(records));
  }

  /** Resolves when the records are on disk, or were refused. */
  written(records: readonly AddressRecord[]): Promise<void> {
    return this.#journal.append(records).then(
      () => this.noteJournal(undefined),
      (error: unknown) => this.noteJournal(error),
    );
  }

  /** Reports that the journal fails, once until it works again. */
  noteJournal(error: unknown): void {
    const failing = error !== undefined;
    if (failing && !this.#journalFailing) this.problem("no new leases can be granted", error);
    this.#journalFailing = failing;
  }

  async dropRoute(ip: string): Promise<void> {
    await this.#network
      .removeRoute(ip)
      .catch((error: unknown) => this.problem(`the route to ${ip} cannot be removed`, error));
  }

  async restoreRoutes(leases: readonly Lease[], signal?: AbortSignal): Promise<void> {
    for (let from = 0; from < leases.length; from += routesAtOnce) {
      signal?.throwIfAborted();
      await Promise.all(leases.slice(from, from + routesAtOnce).map((lease) => this.#restoreRoute(lease)));
    }
  }

  async #restoreRoute({ ip }: Lease): Promise<void> {
    await this.#network
      .addRoute(ip)
      .catch((error: unknown) => this.problem(`the route to ${ip} cannot be restored`, error));
  }

  expired(ended: readonly Expired[]): void {
    if (ended.length === 0) return;
    for (const { lease } of ended) {
      this.tell({ type: "expired", lease });
      this.touch(parseAddress(lease.ip));
      this.run(this.dropRoute(lease.ip));
    }
    this.write(ended.map(({ record }) => record));
  }

  async ended(ip: string, records: readonly AddressRecord[]): Promise<void> {
    this.touch(parseAddress(ip));
    this.write(records);
    await this.dropRoute(ip);
  }

  /** Resolves when the ends are on disk and the routes are out. */
  async endedWithVm(ended: readonly Expired[]): Promise<void> {
    for (const { lease } of ended) {
      this.touch(parseAddress(lease.ip));
      this.tell({ type: "released", lease });
    }
    if (ended.length === 0) return;
    const written = this.written(ended.map(({ record }) => record));
    await Promise.all([written, ...ended.map(({ lease }) => this.dropRoute(lease.ip))]);
  }
}
