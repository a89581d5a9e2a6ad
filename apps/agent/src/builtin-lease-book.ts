import { DisposeStack, type LeaseRecord, type PoolUse, parseAddress, parseCidr } from "@cocoon-net/core";
import {
  DhcpServer,
  type DhcpSocket,
  type Granting,
  type Lease,
  LeaseEngine,
  type LeaseNetwork,
  LeasesFile,
  loadLeases,
  type ServerEvent,
  type ServerStats,
  steadyClock,
} from "@cocoon-net/dhcp";
import type { LeaseBook } from "./lease-book.ts";
import type { Logger } from "./log.ts";
import type { PoolFile, StateDirectory } from "./state-directory.ts";

/** What the server asks of the kernel, and which routes stand there now. */
export interface HostRoutes extends LeaseNetwork {
  listRoutes(): Promise<readonly string[]>;
}

const defaultDNS: readonly string[] = ["8.8.8.8", "1.1.1.1"];

export interface BuiltinOptions {
  readonly pool: PoolFile;
  readonly state: StateDirectory;
  readonly leaseFile: string;
  /** Default 24 h. */
  readonly leaseMs?: number | undefined;
  readonly granting: Granting;
  readonly network: HostRoutes;
  /** Opened last, when everything is loaded (G9). It becomes the server's. */
  readonly openSocket: () => Promise<DhcpSocket>;
  readonly log: Logger;
}

/** This agent's own DHCP server on the bridge. */
export class BuiltinLeaseBook implements LeaseBook {
  readonly #node: string;
  readonly #engine: LeaseEngine;
  readonly #server: DhcpServer;
  readonly #network: HostRoutes;
  readonly #log: Logger;
  #owned: DisposeStack | undefined;
  #listener: (address: string, lease: LeaseRecord | undefined) => void = () => {};

  private constructor(
    options: BuiltinOptions,
    engine: LeaseEngine,
    parts: DisposeStack,
    make: (onEvent: (event: ServerEvent) => void) => DhcpServer,
  ) {
    this.#node = options.pool.nodeName;
    this.#engine = engine;
    this.#network = options.network;
    this.#log = options.log;
    this.#server = parts.use(make((event) => this.#onEvent(event)));
  }

  /** Loads what was granted before, puts the routes back, then serves (G9). */
  static async start(options: BuiltinOptions, signal: AbortSignal): Promise<BuiltinLeaseBook> {
    await using parts = new DisposeStack();
    const { pool, log } = options;
    const clock = steadyClock();
    const loaded = await loadLeases({
      journalPath: options.state.journalPath,
      leasesFilePath: options.leaseFile,
      now: clock.now(),
    });
    parts.use(loaded.journal);
    if (loaded.cutBytes > 0) {
      log.warn(
        { bytes: loaded.cutBytes },
        `${options.state.journalPath} ended in a torn record, which was cut off`,
      );
    }
    if (loaded.adopted.length > 0) {
      log.info({ leases: loaded.adopted.length }, `took leases over from ${options.leaseFile}`);
    }
    if (!pool.dnsServers?.length)
      log.warn(`pool.json names no DNS servers; guests get ${defaultDNS.join(", ")}`);
    const engine = new LeaseEngine(
      {
        subnet: parseCidr(pool.subnet),
        gateway: parseAddress(pool.gateway),
        pool: pool.ips.map((ip) => parseAddress(ip)),
        dns: (pool.dnsServers?.length ? pool.dnsServers : defaultDNS).map((ip) => parseAddress(ip)),
        granting: options.granting,
        ...(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs }),
      },
      loaded.state,
    );
    const leasesFile = parts.use(
      new LeasesFile(options.leaseFile, {
        onProblem: (error) => log.error({ err: error }, `${options.leaseFile} could not be written`),
      }),
    );
    const socket = await options.openSocket();
    const book = new BuiltinLeaseBook(
      options,
      engine,
      parts,
      (onEvent) =>
        new DhcpServer({
          engine,
          journal: loaded.journal,
          leasesFile,
          socket,
          clock,
          onEvent,
          network: options.network,
        }),
    );
    await book.#server.start(signal);
    book.#owned = parts.move();
    return book;
  }

  get stats(): ServerStats {
    return this.#server.stats();
  }

  leases(): ReadonlyMap<string, LeaseRecord> {
    return new Map([...this.#engine.leases()].map((lease) => [lease.ip, this.#record(lease)]));
  }

  use(): PoolUse {
    const { pool, leased, free } = this.#engine.counts();
    return { size: pool, leased, free };
  }

  setGranting(granting: Granting): void {
    this.#engine.configure({ granting });
  }

  async withdraw(): Promise<void> {
    for (const address of await this.#network.listRoutes()) await this.#network.removeRoute(address);
  }

  onChange(listener: (address: string, lease: LeaseRecord | undefined) => void): void {
    this.#listener = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned?.[Symbol.asyncDispose]();
  }

  #record(lease: Lease): LeaseRecord {
    return {
      node: this.#node,
      mac: lease.mac,
      expiry: new Date(lease.expiry).toISOString(),
      seq: lease.seq,
      ...(lease.hostname === undefined ? {} : { hostname: lease.hostname }),
    };
  }

  #onEvent(event: ServerEvent): void {
    switch (event.type) {
      case "granted":
      case "renewed":
        this.#log.info(
          { mac: event.lease.mac, ip: event.lease.ip, seq: event.lease.seq },
          `lease ${event.type}`,
        );
        this.#listener(event.lease.ip, this.#record(event.lease));
        break;
      case "released":
      case "expired":
        this.#log.info(
          { mac: event.lease.mac, ip: event.lease.ip, seq: event.lease.seq },
          `lease ${event.type}`,
        );
        this.#listener(event.lease.ip, undefined);
        break;
      case "declined":
        this.#log.warn({ mac: event.mac, ip: event.ip }, "address declined: somebody else uses it");
        this.#listener(event.ip, undefined);
        break;
      case "refused":
        this.#log.warn({ mac: event.mac, ip: event.ip, reason: event.reason }, "request refused");
        break;
      case "problem":
        this.#log.error({ err: event.error }, event.message);
        break;
    }
  }
}
