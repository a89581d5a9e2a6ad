import {
  contains,
  DisposeStack,
  type LeaseRecord,
  type PoolUse,
  parseAddress,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import {
  type AddressProbe,
  DhcpServer,
  type DhcpSocket,
  type EngineState,
  type FloodGuard,
  type Granting,
  type Lease,
  LeaseEngine,
  type LeaseNetwork,
  LeasesFile,
  type LoadedLeases,
  loadLeases,
  type MovedAddress,
  type ServerEvent,
  type ServerStats,
  steadyClock,
} from "@cocoon-net/dhcp";
import { checkDhcp, type DhcpConfig, engineSettings, present } from "./dhcp-settings.ts";
import type { LeaseBook, MovingBook } from "./lease-book.ts";
import { LentSocket } from "./lent-socket.ts";
import type { Logger } from "./log.ts";
import { OncePerMinute } from "./once-per-minute.ts";
import type { PoolFile, StateDirectory } from "./state-directory.ts";
import { examineRoutes, putAside } from "./unaccounted-routes.ts";
import { unknownLeases } from "./unknown-leases.ts";
import { GrantLoad } from "./v8-memory.ts";

/** What the server asks of the kernel, and what stands there now. */
export interface HostRoutes extends LeaseNetwork {
  listRoutes(): Promise<readonly string[]>;
  /** The MACs that the kernel has seen behind addresses. */
  listNeighbours?(): Promise<ReadonlyMap<string, string>>;
}

const defaultDNS: readonly string[] = ["8.8.8.8", "1.1.1.1"];
const day = 86_400_000;

export interface BuiltinOptions {
  readonly pool: PoolFile;
  readonly state: StateDirectory;
  readonly leaseFile: string;
  /** Default 24 h. */
  readonly leaseMs?: number | undefined;
  readonly granting: Granting;
  /** Addresses that are served outside their subnet, as far as that is known. */
  readonly moved?: readonly MovedAddress[] | undefined;
  /** What the config file says. */
  readonly dhcp?: DhcpConfig | undefined;
  readonly guard?: FloodGuard | undefined;
  /** Asked unless the config file says otherwise. */
  readonly probe?: AddressProbe | undefined;
  readonly network: HostRoutes;
  /** Opened before any file is touched: of two servers on one bridge the kernel refuses the second. */
  readonly openSocket: () => Promise<DhcpSocket>;
  readonly log: Logger;
}

interface Serving extends AsyncDisposable {
  readonly engine: LeaseEngine;
  readonly server: DhcpServer;
}

/** This agent's own DHCP server on the bridge. */
export class BuiltinLeaseBook implements LeaseBook, MovingBook {
  readonly whenLost: string = "guests are told to leave their addresses, and their routes are taken out";
  readonly #options: BuiltinOptions;
  readonly #socket: LentSocket;
  readonly #clock = steadyClock();
  /** The newest one, also while it is being replaced. */
  #engine: LeaseEngine | undefined;
  #serving: Serving | undefined;
  #granting: Granting;
  #leaseMs: number;
  #listener: ((address: string, lease: LeaseRecord | undefined) => void) | undefined;
  #onGuest: (mac: string, outcome: "served" | "refused") => void = () => {};
  readonly #refusals = new OncePerMinute();
  readonly #grantLoad = new GrantLoad();
  /** VMs by MAC, as they were told: a server that replaces this one is told again. */
  readonly #vms = new Map<string, string>();
  #dhcp: DhcpConfig;
  /** The grantable addresses; they follow demand where the node has a policy for that. */
  #ips: readonly string[];
  #moved: readonly MovedAddress[];

  private constructor(options: BuiltinOptions, socket: LentSocket) {
    this.#options = options;
    this.#ips = options.pool.ips;
    this.#dhcp = options.dhcp ?? {};
    this.#moved = options.moved ?? [];
    this.#socket = socket;
    this.#granting = options.granting;
    this.#leaseMs = options.leaseMs ?? day;
  }

  /** Loads what was granted before, puts the routes back, then serves (G9). */
  static async start(options: BuiltinOptions, signal: AbortSignal): Promise<BuiltinLeaseBook> {
    const book = new BuiltinLeaseBook(options, new LentSocket(await options.openSocket()));
    try {
      await book.#serve(undefined, signal);
      return book;
    } catch (error) {
      await book[Symbol.asyncDispose]();
      throw error;
    }
  }

  get stats(): ServerStats | undefined {
    return this.#serving?.server.stats();
  }

  leases(): ReadonlyMap<string, LeaseRecord> {
    return new Map([...(this.#engine?.leases() ?? [])].map((lease) => [lease.ip, this.#record(lease)]));
  }

  use(): PoolUse {
    const { pool = 0, leased = 0, free = 0 } = this.#engine?.counts() ?? {};
    return { size: pool, leased, free };
  }

  async adopt(stored: ReadonlyMap<string, LeaseRecord>): Promise<number> {
    const { pool, network } = this.#options;
    if (this.#serving && this.#engine) {
      const routes = await network.listRoutes();
      const known: EngineState = { seq: this.#engine.seq, records: [...this.#engine.records()] };
      const unknown = unknownLeases(known, stored, pool.nodeName, this.#clock.now());
      const { unexplained } = examineRoutes(routes, this.#ips, known);
      if (unknown.length === 0 && unexplained.length === 0) return 0;
    }
    // Rare: local files were lost. What is taken in goes the way of everything else, over the journal.
    await this.#stopServing();
    return this.#serve(stored);
  }

  /** The bridge is a new one: the routes of the old one went with it. */
  async restoreRoutes(): Promise<void> {
    await this.#serving?.server.restoreRoutes();
  }

  setGranting(granting: Granting): void {
    this.#granting = granting;
    this.#engine?.configure({ granting });
  }

  setLeaseTime(leaseMs: number): void {
    this.#leaseMs = leaseMs;
    this.#engine?.configure({ leaseMs });
  }

  /** What the config file says now, with each guest's next message. @throws {InvalidError} and changes nothing */
  setDhcp(dhcp: DhcpConfig): void {
    checkDhcp(dhcp, this.#options.pool);
    this.#engine?.configure(engineSettings(dhcp));
    this.#options.guard?.configure(dhcp.limits ?? {});
    this.#dhcp = dhcp;
  }

  setPool(ips: readonly string[]): void {
    this.#ips = ips;
    this.#engine?.configure({ pool: ips.map((ip) => parseAddress(ip)) });
  }

  /** Takes up to `count` addresses that nobody has out of the pool. */
  setAside(count: number): readonly string[] {
    const free = this.#ips.filter((ip) => this.#engine?.isFree(parseAddress(ip)));
    const aside = free.slice(-Math.min(count, free.length));
    const gone = new Set(aside);
    this.setPool(this.#ips.filter((ip) => !gone.has(ip)));
    return aside;
  }

  setMoved(moved: readonly MovedAddress[]): void {
    this.#moved = moved;
    this.#engine?.configure({ moved });
  }

  async takeIn(address: string, { mac, expiry, vmID, hostname }: LeaseRecord): Promise<void> {
    const lease = { ip: address, mac, expiry: Date.parse(expiry), ...present({ vmID, hostname }) };
    const problem = `the lease of ${address} cannot be taken in`;
    if (await this.#server(problem).takeIn(lease)) return;
    throw new UnavailableError(`${problem} now`, { outcome: "none" });
  }

  async letGo(address: string): Promise<void> {
    await this.#server(`the lease of ${address} cannot be dropped`).letGo(address);
  }

  async assignVm(vmID: string, mac: string): Promise<void> {
    this.#vms.set(mac, vmID);
    await this.#serving?.server.assignVm(vmID, mac);
  }

  async removeVm(vmID: string): Promise<void> {
    const server = this.#server(`the leases of VM ${vmID} cannot be ended`);
    for (const [mac, other] of this.#vms) if (other === vmID) this.#vms.delete(mac);
    await server.removeVm(vmID);
  }

  async removeMac(mac: string): Promise<void> {
    const server = this.#server(`the lease of ${mac} cannot be ended`);
    this.#vms.delete(mac);
    await server.removeMac(mac);
  }

  /** @throws {UnavailableError} while the server is being replaced: what was asked for would be lost */
  #server(problem: string): DhcpServer {
    if (this.#serving) return this.#serving.server;
    throw new UnavailableError(`${problem} now`, { outcome: "none", hint: "try again in a second" });
  }

  /** Told of guests that got an address, and of those that got none because none was free. */
  onGuest(listener: (mac: string, outcome: "served" | "refused") => void): void {
    this.#onGuest = listener;
  }

  async withdraw(): Promise<void> {
    const { network } = this.#options;
    for (const address of await network.listRoutes()) await network.removeRoute(address);
  }

  onChange(listener: (address: string, lease: LeaseRecord | undefined) => void): void {
    this.#listener = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stopServing();
    await this.#socket[Symbol.asyncDispose]();
  }

  async #stopServing(): Promise<void> {
    await this.#serving?.[Symbol.asyncDispose]();
    this.#serving = undefined;
  }

  /** @param stored what the store says; undefined while that is not known */
  async #serve(stored: ReadonlyMap<string, LeaseRecord> | undefined, signal?: AbortSignal): Promise<number> {
    await using parts = new DisposeStack();
    const { pool, network, leaseFile, log, guard } = this.#options;
    const loaded = await this.#load();
    parts.use(loaded.journal);
    const adopted = unknownLeases(loaded.state, stored ?? new Map(), pool.nodeName, this.#clock.now());
    // As long as nothing new is granted, the store may still explain a route.
    const last = stored !== undefined || this.#granting === "open";
    const state = await this.#explainRoutes(taking(loaded.state, adopted), loaded, last);
    await loaded.journal.append(adopted.map((lease) => ({ state: "leased", ...lease })));
    const engine = new LeaseEngine(
      {
        subnet: parseCidr(pool.subnet),
        gateway: parseAddress(pool.gateway),
        pool: this.#ips.map((ip) => parseAddress(ip)),
        dns: (pool.dnsServers?.length ? pool.dnsServers : defaultDNS).map((ip) => parseAddress(ip)),
        granting: this.#granting,
        leaseMs: this.#leaseMs,
        moved: this.#moved,
        ...engineSettings(this.#dhcp),
      },
      state,
    );
    const leasesFile = parts.use(
      new LeasesFile(leaseFile, {
        onProblem: (error) => log.error({ err: error }, `${leaseFile} could not be written`),
      }),
    );
    const server = parts.use(
      new DhcpServer({
        engine,
        journal: loaded.journal,
        leasesFile,
        socket: this.#socket.lend(),
        clock: this.#clock,
        onEvent: (event) => this.#onEvent(event),
        network,
        ...present({ guard, probe: this.#probe() }),
      }),
    );
    this.#engine = engine;
    for (const [mac, vmID] of this.#vms) await server.assignVm(vmID, mac);
    await server.start(signal);
    const owned = parts.move();
    this.#serving = { engine, server, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
    return adopted.length;
  }

  #probe(): AddressProbe | undefined {
    const { probe } = this.#options;
    return probe && { probe: async (ip) => (this.#dhcp.probe === false ? undefined : probe.probe(ip)) };
  }

  async #load(): Promise<LoadedLeases> {
    const { pool, state, leaseFile, log } = this.#options;
    const loaded = await loadLeases({
      journalPath: state.journalPath,
      leasesFilePath: leaseFile,
      now: this.#clock.now(),
    });
    const { cutBytes, adopted, skipped } = loaded;
    if (cutBytes > 0) {
      log.warn({ bytes: cutBytes }, `${state.journalPath} ended in a torn record, which was cut off`);
    }
    if (adopted.length > 0) log.info({ leases: adopted.length }, `took leases over from ${leaseFile}`);
    if (skipped > 0) log.info({ entries: skipped }, `${leaseFile} has entries that are malformed or ended`);
    // Leases of a subnet that this node had before are somebody else's business now (G3).
    const subnet = parseCidr(pool.subnet);
    const guests = new Set(this.#moved.map(({ address }) => address));
    const records = loaded.state.records.filter(({ ip }) => {
      const address = parseAddress(ip);
      return contains(subnet, address) || guests.has(address);
    });
    const foreign = loaded.state.records.length - records.length;
    if (foreign > 0) log.info({ records: foreign }, `dropped leases outside ${pool.subnet}`);
    return { ...loaded, state: { seq: loaded.state.seq, records } };
  }

  /**
   * G9: takes the routes of ended leases out. An address with a route but without a record may be in use; when nobody is
   * left to ask (`last`), it rests until that lease must have ended.
   */
  async #explainRoutes(state: EngineState, { journal }: LoadedLeases, last: boolean): Promise<EngineState> {
    const { network, log } = this.#options;
    const { stale, unexplained } = examineRoutes(await network.listRoutes(), this.#ips, state);
    for (const ip of stale) await network.removeRoute(ip);
    if (!last || unexplained.length === 0) return state;
    const neighbours = await network.listNeighbours?.();
    const until = this.#clock.now() + this.#leaseMs;
    const records = unexplained.map((ip) => putAside(ip, neighbours?.get(ip), until));
    await journal.append(records);
    log.warn(
      { addresses: unexplained },
      "addresses with a route, but without a record of their lease, are put aside for one lease time",
    );
    return { seq: state.seq, records: [...state.records, ...records] };
  }

  #record(lease: Lease): LeaseRecord {
    return {
      node: this.#options.pool.nodeName,
      mac: lease.mac,
      expiry: new Date(lease.expiry).toISOString(),
      seq: lease.seq,
      ...(lease.vmID === undefined ? {} : { vmID: lease.vmID }),
      ...(lease.hostname === undefined ? {} : { hostname: lease.hostname }),
    };
  }

  #onEvent(event: ServerEvent): void {
    const { log } = this.#options;
    switch (event.type) {
      case "granted":
      case "renewed":
        if (log.isLevelEnabled("info")) {
          log.info({ ...leaseFields(event.lease), latencyMs: event.tookMs }, `lease ${event.type}`);
        }
        this.#grantLoad.noteGrant();
        this.#listener?.(event.lease.ip, this.#record(event.lease));
        this.#onGuest(event.lease.mac, "served");
        break;
      case "released":
      case "expired":
        log.info(leaseFields(event.lease), `lease ${event.type}`);
        this.#listener?.(event.lease.ip, undefined);
        break;
      case "assigned":
        log.info(leaseFields(event.lease), "lease has its VM");
        this.#listener?.(event.lease.ip, this.#record(event.lease));
        break;
      case "in-use":
        log.warn({ mac: event.mac, ip: event.ip }, "address put aside: somebody without a lease uses it");
        break;
      case "declined":
        log.warn({ mac: event.mac, ip: event.ip }, "address declined: somebody else uses it");
        this.#listener?.(event.ip, undefined);
        break;
      case "refused":
        if (this.#refusals.isDue(`${event.mac} ${event.reason}`)) {
          log.warn({ mac: event.mac, ip: event.ip, reason: event.reason }, "request refused");
        }
        if (event.reason === "pool-empty") this.#onGuest(event.mac, "refused");
        break;
      case "problem":
        log.error({ err: event.error }, event.message);
        break;
    }
  }
}

function taking(state: EngineState, leases: readonly Lease[]): EngineState {
  const taken = new Set(leases.map(({ ip }) => ip));
  return {
    seq: Math.max(state.seq, ...leases.map(({ seq }) => seq)),
    records: [
      ...state.records.filter(({ ip }) => !taken.has(ip)),
      ...leases.map((lease) => ({ state: "leased" as const, ...lease })),
    ],
  };
}

function leaseFields({ mac, ip, vmID, seq }: Lease): object {
  return { mac, ip, ...(vmID === undefined ? {} : { vmID }), seq };
}
