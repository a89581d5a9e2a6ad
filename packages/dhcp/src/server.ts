import { type Address, formatAddress, parseAddress } from "@cocoon-net/core";
import type { PoolCounts } from "./address-table.ts";
import { BusyClients } from "./busy-clients.ts";
import type { Grant, Offer } from "./decision.ts";
import { Effects } from "./effects.ts";
import type { LeaseEngine } from "./engine.ts";
import type { FloodGuard } from "./flood-guard.ts";
import { GrantBatches, type Secured } from "./grant-batches.ts";
import { GrantSettlement } from "./grant-settlement.ts";
import type { Journal, JournalStats } from "./journal.ts";
import type { Lease } from "./lease.ts";
import type { LeasesFile } from "./leases-file.ts";
import { OfferProbe } from "./offer-probe.ts";
import { OrderedNetwork } from "./ordered-network.ts";
import { decodePacket } from "./packet.ts";
import {
  type AddressProbe,
  type Clock,
  type DhcpSocket,
  type Endpoint,
  type LeaseNetwork,
  type ServerEvent,
  steadyClock,
} from "./ports.ts";
import { count, type Received, Replies } from "./replies.ts";
import { identityOf, readRequest } from "./request.ts";

export interface DhcpServerOptions {
  readonly engine: LeaseEngine;
  /** Disposed with the server. */
  readonly journal: Journal;
  /** Disposed with the server. */
  readonly leasesFile: LeasesFile;
  /** Closed with the server. */
  readonly socket: DhcpSocket;
  readonly network: LeaseNetwork;
  /** Default: none, every message is served. */
  readonly guard?: FloodGuard;
  /** Asked before an address is offered that somebody had before. Default: none. */
  readonly probe?: AddressProbe;
  /** Default `steadyClock()`. */
  readonly clock?: Clock;
  /** Called synchronously, for grants after the ACK has been handed to the socket. Must not throw. */
  readonly onEvent?: (event: ServerEvent) => void;
  /** Deadline of one call of `network`. Default 5,000. */
  readonly networkTimeoutMs?: number;
}

export interface ServerStats {
  /** REQUESTs that led to a grant or renewal, and those that should have. */
  readonly grants: { readonly ok: number; readonly failed: number };
  readonly pool: PoolCounts;
  /** Client messages, by type. */
  readonly received: Readonly<Record<string, number>>;
  /** Answers, by type: offer, ack, inform-ack, nak. */
  readonly sent: Readonly<Record<string, number>>;
  /** Packets that got no answer, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly journal: JournalStats;
}

interface Job extends Received {
  /** The bridge port that the client is behind. */
  readonly port: string | undefined;
  /** Addresses that were found in use while it was served. */
  readonly conflicts: number;
  /** Called when its grant is settled, by whoever waits for that. */
  settled?: () => void;
}

/** What is left to do for a message: nothing, some work, or the settling of a grant. */
type Rest = Promise<void> | undefined | typeof toBeSettled;
const toBeSettled = Symbol("to be settled");

const maxConflicts = 4;
const maxSweepMs = 60_000;

/**
 * The DHCP server: socket → codec → engine → journal and route → reply. The messages of one client are served in
 * order, those of different clients side by side, so that their grants share the journal's syncs.
 */
export class DhcpServer implements AsyncDisposable {
  readonly #engine: LeaseEngine;
  readonly #journal: Journal;
  readonly #leasesFile: LeasesFile;
  readonly #socket: DhcpSocket;
  readonly #network: OrderedNetwork;
  readonly #guard: FloodGuard | undefined;
  readonly #probe: OfferProbe | undefined;
  readonly #clock: Clock;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #effects: Effects;
  readonly #batches: GrantBatches<Job>;
  readonly #busy = new BusyClients<Job>();
  readonly #settlement: GrantSettlement;
  readonly #replies: Replies;
  readonly #received = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #disposed: Promise<void> | undefined;

  constructor(options: DhcpServerOptions) {
    this.#engine = options.engine;
    this.#journal = options.journal;
    this.#leasesFile = options.leasesFile;
    this.#socket = options.socket;
    this.#network = new OrderedNetwork(options.network, options.networkTimeoutMs ?? 5000);
    this.#guard = options.guard;
    this.#probe =
      options.probe &&
      new OfferProbe(options.probe, (error) =>
        this.#effects.problem("addresses cannot be probed before an offer", error),
      );
    this.#clock = options.clock ?? steadyClock();
    const { journal, leasesFile, onEvent = () => undefined } = options;
    this.#onEvent = onEvent;
    this.#effects = new Effects({ journal, leasesFile, network: this.#network, onEvent });
    this.#replies = new Replies(this.#engine, this.#socket, this.#network);
    this.#settlement = new GrantSettlement({
      engine: this.#engine,
      clock: this.#clock,
      effects: this.#effects,
      replies: this.#replies,
      arm: () => this.#arm(),
    });
    this.#batches = new GrantBatches(journal, this.#network, this.#clock, (job, grant, secured) =>
      this.#settle(job, grant, secured),
    );
  }

  /**
   * Ends what has expired, restores the routes of all live leases, brings `leases.json` up to date, and only then
   * serves (G9). A route that cannot be restored is reported; the lease stays.
   */
  async start(signal?: AbortSignal): Promise<void> {
    this.#journal.compactFrom(this.#engine);
    this.#sweep(this.#clock.now());
    await this.restoreRoutes(signal);
    await this.#leasesFile.start(this.#engine);
    signal?.throwIfAborted();
    if (this.#disposed !== undefined) return;
    this.#socket.onPacket((bytes, from) => this.#receive(bytes, from));
    this.#arm();
  }

  /** Sets the routes of all live leases again: the link that they lead to is a new one. Failures are reported. */
  async restoreRoutes(signal?: AbortSignal): Promise<void> {
    await this.#effects.restoreRoutes([...this.#engine.leases()], signal);
  }

  /**
   * A VM exists and has this MAC. Its leases carry its id from now on; those of another VM that had the MAC end (G12).
   * Idempotent. Resolves once that is on disk, as far as the disk takes it.
   */
  async assignVm(vmID: string, mac: string): Promise<void> {
    for (;;) {
      const { isPending, assigned, ended } = this.#engine.assignVm(
        vmID,
        mac.toLowerCase(),
        this.#clock.now(),
      );
      const work: Promise<void>[] = [];
      if (ended !== undefined) work.push(this.#effects.endedWithVm([ended]));
      if (assigned !== undefined) {
        work.push(this.#effects.written([assigned.record]));
        this.#onEvent({ type: "assigned", lease: assigned.lease });
      }
      this.#arm();
      await Promise.all(work);
      if (!isPending) return;
      await this.#effects.someDone();
    }
  }

  /** The VM is gone: its leases end at once. Resolves once that is on disk and the routes are out. */
  async removeVm(vmID: string): Promise<void> {
    const ended = this.#engine.removeVm(vmID, this.#clock.now());
    this.#arm();
    await this.#effects.endedWithVm(ended);
  }

  /** The VM that has this MAC is gone, whichever it was: as with {@link removeVm}. */
  async removeMac(mac: string): Promise<void> {
    const ended = this.#engine.removeMac(mac.toLowerCase(), this.#clock.now());
    this.#arm();
    await this.#effects.endedWithVm(ended);
  }

  /**
   * Takes the lease of a moved guest in; resolves when it is on disk and its route set (G2). Idempotent. False when the
   * address is another's here. @throws what the journal or the kernel say; the same call tries again
   */
  async takeIn(lease: Omit<Lease, "seq">): Promise<boolean> {
    for (;;) {
      const now = this.#clock.now();
      const taken = this.#engine.takeIn(lease, now);
      this.#sweep(now);
      if (taken !== undefined) {
        this.#leasesFile.touch(parseAddress(lease.ip));
        await Promise.all([this.#journal.append([taken.record]), this.#network.addRoute(lease.ip)]);
        await this.#network.setNeighbour(lease.ip, lease.mac);
        this.#arm();
        return true;
      }
      if (this.#effects.isIdle) return false;
      await this.#effects.someDone();
    }
  }

  /** Another node serves the address from now on: its lease and its route go, and nobody is told of an end. Idempotent. */
  async letGo(ip: string): Promise<void> {
    const address = parseAddress(ip);
    for (;;) {
      const record = this.#engine.letGo(address, this.#clock.now());
      if (record !== undefined) await this.#effects.ended(ip, [record]);
      if (this.#engine.leaseOf(address) === undefined || this.#effects.isIdle) break;
      await this.#effects.someDone();
    }
    await this.#effects.dropRoute(ip);
    this.#arm();
  }

  stats(): ServerStats {
    return {
      grants: this.#settlement.counts,
      pool: this.#engine.counts(),
      received: Object.fromEntries(this.#received),
      sent: this.#replies.sent,
      dropped: this.#replies.dropped,
      journal: this.#journal.stats,
    };
  }

  /** Stops serving, finishes what is under way, and flushes both files. Routes and leases stay. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= (async () => {
      clearTimeout(this.#timer);
      this.#busy.dropWaiting();
      await this.#socket.close();
      await this.#effects.allDone();
      await this.#leasesFile[Symbol.asyncDispose]();
      await this.#journal[Symbol.asyncDispose]();
    })();
    return this.#disposed;
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    if (this.#disposed !== undefined) return;
    if (this.#busy.isFull) {
      this.#replies.drop("server-busy");
      return;
    }
    const decoded = decodePacket(bytes);
    const request = decoded.ok ? readRequest(decoded.packet) : decoded.reason;
    if (!decoded.ok || typeof request === "string") {
      this.#replies.drop(String(request));
      return;
    }
    count(this.#received, request.type);
    const client = identityOf(request);
    const now = this.#clock.now();
    let port: string | undefined;
    if (this.#guard !== undefined) {
      const isKnown = this.#engine.isHolder(client);
      port = this.#engine.portOf(client) ?? this.#guard.portOf(request, from.address);
      const refusal = this.#guard.refusal(client, isKnown, port, now);
      if (refusal !== undefined) {
        this.#replies.drop(refusal);
        return;
      }
    }
    const job: Job = { packet: decoded.packet, request, at: now, port, conflicts: 0 };
    if (!this.#busy.has(client)) this.#serve(client, job, now);
    else if (!this.#busy.wait(client, job)) this.#replies.drop("client-busy");
  }

  #serve(client: string, job: Job, now: number): void {
    // First, so that the route of an expired lease goes out before a late renewal brings it back.
    this.#sweep(now);
    const rest = this.#answer(job, now);
    this.#arm(now);
    if (rest === undefined) {
      if (!this.#busy.isEmpty) this.#serveNext(client);
      return;
    }
    this.#busy.add(client);
    if (rest !== toBeSettled) this.#effects.run(rest.finally(() => this.#serveNext(client)));
  }

  #serveNext(client: string): void {
    const next = this.#busy.next(client);
    if (next !== undefined) this.#serve(client, next, this.#clock.now());
  }

  #answer(job: Job, now: number): Rest {
    const decision = this.#engine.handle(job.request, now, job.port);
    const { mac } = job.request;
    switch (decision.kind) {
      case "silence":
        this.#replies.drop(decision.reason);
        if (decision.reason === "pool-empty") this.#onEvent({ type: "refused", mac, reason: "pool-empty" });
        return undefined;
      case "offer":
        return this.#offer(job, decision, now);
      case "inform-ack":
        return this.#replies.send(job, { type: "inform-ack", address: decision.address });
      case "nak":
        this.#onEvent({ type: "refused", mac, reason: decision.reason });
        return this.#replies.send(job, { type: "nak", reason: decision.reason });
      case "grant":
        return this.#grant(job, decision);
      case "release":
        this.#onEvent({ type: "released", lease: decision.lease });
        return this.#effects.ended(decision.lease.ip, decision.records);
      case "decline":
        this.#onEvent({
          type: "declined",
          ip: decision.ip,
          mac,
          ...(decision.lease && { lease: decision.lease }),
        });
        return this.#effects.ended(decision.ip, decision.records);
    }
  }

  #offer(job: Job, { address, leaseMs, probe }: Offer, now: number): Promise<void> | undefined {
    if (probe && this.#probe !== undefined && !this.#probe.isKnownFree(formatAddress(address), now)) {
      if (this.#probe.isBusy) return this.#replies.drop("probe-busy");
      return this.#offerAfterProbe(job, address, this.#probe);
    }
    return this.#replies.send(job, { type: "offer", address, leaseMs });
  }

  /** The address stays offered to the client meanwhile, and its other messages wait. */
  async #offerAfterProbe(job: Job, address: Address, probe: OfferProbe): Promise<void> {
    const ip = formatAddress(address);
    const user = await probe.userOf(ip, job.request.mac, this.#clock.now());
    const now = this.#clock.now();
    if (user !== undefined) {
      const record = this.#engine.putAside(address, now);
      if (record !== undefined) {
        this.#onEvent({ type: "in-use", ip, mac: user });
        this.#effects.write([record]);
      }
      if (job.conflicts === maxConflicts) return this.#replies.drop("in-use");
    }
    // Decided anew: the pool may have changed meanwhile.
    const again: Job = { ...job, conflicts: job.conflicts + (user === undefined ? 0 : 1) };
    const rest = this.#answer(again, now);
    if (rest !== toBeSettled) return rest;
    await new Promise<void>((resolve) => {
      again.settled = resolve;
    });
  }

  #grant(job: Job, grant: Grant): Rest {
    const batch = this.#batches.add(job, grant);
    if (batch !== undefined) this.#effects.run(batch);
    return toBeSettled;
  }

  #settle(job: Job, grant: Grant, secured: Secured): void {
    let rest: Promise<void> | undefined;
    try {
      rest = this.#settlement.settle(job, grant, secured);
    } catch (error) {
      this.#effects.problem("a grant could not be settled", error);
    }
    if (rest === undefined) this.#settled(job);
    else this.#effects.run(rest.finally(() => this.#settled(job)));
  }

  #settled({ settled, request }: Job): void {
    if (settled === undefined) this.#serveNext(identityOf(request));
    else settled();
  }

  #sweep(now: number): void {
    this.#effects.expired(this.#engine.expire(now));
  }

  #arm(now?: number): void {
    if (this.#disposed !== undefined) return;
    const isArmed = this.#timerAt < Number.POSITIVE_INFINITY;
    if (isArmed && !this.#engine.endsBy(this.#timerAt)) return;
    const from = now ?? this.#clock.now();
    const at = Math.min(this.#engine.nextExpiry() ?? Number.POSITIVE_INFINITY, from + maxSweepMs);
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#sweep(this.#clock.now());
        this.#arm();
      },
      Math.max(0, at - from),
    ).unref();
  }
}
