import { type Address, formatAddress, parseAddress } from "@cocoon-net/core";
import type { PoolCounts } from "./address-table.ts";
import type { Grant, Offer } from "./decision.ts";
import type { Expired, LeaseEngine } from "./engine.ts";
import type { FloodGuard } from "./flood-guard.ts";
import type { Journal, JournalStats } from "./journal.ts";
import type { AddressRecord, Lease } from "./lease.ts";
import type { LeasesFile } from "./leases-file.ts";
import { OfferProbe } from "./offer-probe.ts";
import { OrderedNetwork } from "./ordered-network.ts";
import { type DhcpPacket, decodePacket } from "./packet.ts";
import {
  type AddressProbe,
  type Clock,
  type DhcpSocket,
  type Endpoint,
  type LeaseNetwork,
  type ServerEvent,
  steadyClock,
} from "./ports.ts";
import { type Answer, broadcastTo, buildReply } from "./reply.ts";
import { type DhcpRequest, identityOf, readRequest } from "./request.ts";

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

interface Job {
  readonly packet: DhcpPacket;
  readonly request: DhcpRequest;
  /** When it arrived. */
  readonly at: number;
  /** The bridge port that the client is behind. */
  readonly port: string | undefined;
  /** Addresses that were found in use while it was served. */
  readonly conflicts: number;
}

interface Secured {
  readonly journalled: PromiseSettledResult<void>;
  readonly routed: PromiseSettledResult<void>;
}

/** A client retransmits; more than this many of its messages need not be remembered while one is served. */
const maxQueued = 4;
const maxConflicts = 4;
const maxSweepMs = 60_000;
const routesAtOnce = 64;
const routeTrustMs = 60_000;
const many = 4;
const gatherMs = 2;
const none: ReadonlyMap<string, unknown> = new Map();

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
  /** Messages that wait for an earlier one of the same client. */
  readonly #queues = new Map<string, Job[]>();
  #unsecured: { readonly grant: Grant; readonly resolve: (secured: Secured) => void }[] = [];
  /** Whether the last grants were so many that more are worth waiting for. */
  #gathers = false;
  readonly #running = new Set<Promise<void>>();
  readonly #grants = { ok: 0, failed: 0 };
  readonly #received = new Map<string, number>();
  readonly #sent = new Map<string, number>();
  readonly #dropped = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #journalFailing = false;
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
        this.#problem("addresses cannot be probed before an offer", error),
      );
    this.#clock = options.clock ?? steadyClock();
    this.#onEvent = options.onEvent ?? (() => undefined);
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
    const leases = [...this.#engine.leases()];
    for (let from = 0; from < leases.length; from += routesAtOnce) {
      signal?.throwIfAborted();
      const group = leases.slice(from, from + routesAtOnce);
      await Promise.all(group.map((lease) => this.#restoreRoute(lease)));
    }
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
      if (ended !== undefined) work.push(this.#afterVm([ended]));
      if (assigned !== undefined) {
        work.push(this.#written([assigned.record]));
        this.#onEvent({ type: "assigned", lease: assigned.lease });
      }
      this.#arm();
      await Promise.all(work);
      if (!isPending) return;
      await Promise.race(this.#running);
    }
  }

  /** The VM is gone: its leases end at once. Resolves once that is on disk and the routes are out. */
  async removeVm(vmID: string): Promise<void> {
    const ended = this.#engine.removeVm(vmID, this.#clock.now());
    this.#arm();
    await this.#afterVm(ended);
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
        this.#leasesFile.touch(lease.ip);
        await Promise.all([this.#journal.append([taken.record]), this.#network.addRoute(lease.ip)]);
        await this.#network.setNeighbour(lease.ip, lease.mac);
        this.#arm();
        return true;
      }
      if (this.#running.size === 0) return false;
      await Promise.race(this.#running);
    }
  }

  /** Another node serves the address from now on: its lease and its route go, and nobody is told of an end. Idempotent. */
  async letGo(ip: string): Promise<void> {
    const address = parseAddress(ip);
    for (;;) {
      const record = this.#engine.letGo(address, this.#clock.now());
      if (record !== undefined) await this.#afterEnd(ip, [record]);
      if (this.#engine.leaseOf(address) === undefined || this.#running.size === 0) break;
      await Promise.race(this.#running);
    }
    await this.#dropRoute(ip);
    this.#arm();
  }

  async #afterVm(ended: readonly Expired[]): Promise<void> {
    for (const { lease } of ended) {
      this.#leasesFile.touch(lease.ip);
      this.#onEvent({ type: "released", lease });
    }
    if (ended.length === 0) return;
    const written = this.#written(ended.map(({ record }) => record));
    await Promise.all([written, ...ended.map(({ lease }) => this.#dropRoute(lease.ip))]);
  }

  stats(): ServerStats {
    return {
      grants: { ...this.#grants },
      pool: this.#engine.counts(),
      received: Object.fromEntries(this.#received),
      sent: Object.fromEntries(this.#sent),
      dropped: Object.fromEntries(this.#dropped),
      journal: this.#journal.stats,
    };
  }

  /** Stops serving, finishes what is under way, and flushes both files. Routes and leases stay. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= (async () => {
      clearTimeout(this.#timer);
      this.#queues.clear();
      await this.#socket.close();
      while (this.#running.size > 0) await Promise.all(this.#running);
      await this.#leasesFile[Symbol.asyncDispose]();
      await this.#journal[Symbol.asyncDispose]();
    })();
    return this.#disposed;
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    if (this.#disposed !== undefined) return;
    const decoded = decodePacket(bytes);
    const request = decoded.ok ? readRequest(decoded.packet) : decoded.reason;
    if (!decoded.ok || typeof request === "string") {
      this.#drop(String(request));
      return;
    }
    count(this.#received, request.type);
    const client = identityOf(request);
    let port: string | undefined;
    if (this.#guard !== undefined) {
      const isKnown = this.#engine.isHolder(client);
      port = this.#engine.portOf(client) ?? this.#guard.portOf(request, from.address);
      const refusal = this.#guard.refusal(client, isKnown, port, this.#clock.now());
      if (refusal !== undefined) {
        this.#drop(refusal);
        return;
      }
    }
    const job: Job = { packet: decoded.packet, request, at: this.#clock.now(), port, conflicts: 0 };
    const queue = this.#queues.get(client);
    if (queue === undefined) this.#serve(client, job);
    else if (queue.length < maxQueued) queue.push(job);
    else this.#drop("client-busy");
  }

  #serve(client: string, job: Job): void {
    const now = this.#clock.now();
    // First, so that the route of an expired lease goes out before a late renewal brings it back.
    this.#sweep(now);
    const work = this.#answer(job, now);
    this.#arm();
    if (work === undefined) {
      this.#serveNext(client);
      return;
    }
    if (!this.#queues.has(client)) this.#queues.set(client, []);
    this.#run(work.finally(() => this.#serveNext(client)));
  }

  #serveNext(client: string): void {
    const next = this.#queues.get(client)?.shift();
    if (next === undefined) this.#queues.delete(client);
    else this.#serve(client, next);
  }

  /** Undefined when all is done already. */
  #answer(job: Job, now: number): Promise<void> | undefined {
    const decision = this.#engine.handle(job.request, now, job.port);
    const { mac } = job.request;
    switch (decision.kind) {
      case "silence":
        this.#drop(decision.reason);
        if (decision.reason === "pool-empty") this.#onEvent({ type: "refused", mac, reason: "pool-empty" });
        return undefined;
      case "offer":
        return this.#offer(job, decision, now);
      case "inform-ack":
        return this.#reply(job, { type: "inform-ack", address: decision.address });
      case "nak":
        this.#onEvent({ type: "refused", mac, reason: decision.reason });
        return this.#reply(job, { type: "nak", reason: decision.reason });
      case "grant":
        return this.#grant(job, decision);
      case "release":
        this.#onEvent({ type: "released", lease: decision.lease });
        return this.#afterEnd(decision.lease.ip, decision.records);
      case "decline":
        this.#onEvent({
          type: "declined",
          ip: decision.ip,
          mac,
          ...(decision.lease && { lease: decision.lease }),
        });
        return this.#afterEnd(decision.ip, decision.records);
    }
  }

  #offer(job: Job, { address, leaseMs, probe }: Offer, now: number): Promise<void> | undefined {
    if (probe && this.#probe !== undefined && !this.#probe.isKnownFree(formatAddress(address), now)) {
      if (this.#probe.isBusy) return this.#drop("probe-busy");
      return this.#offerAfterProbe(job, address, this.#probe);
    }
    return this.#reply(job, { type: "offer", address, leaseMs });
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
        this.#write([record]);
      }
      if (job.conflicts === maxConflicts) return this.#drop("in-use");
    }
    // Decided anew: the pool may have changed meanwhile.
    await this.#answer({ ...job, conflicts: job.conflicts + (user === undefined ? 0 : 1) }, now);
  }

  async #grant(job: Job, grant: Grant): Promise<void> {
    const { lease, renews, replaces, address, leaseMs } = grant;
    const { journalled, routed } = await this.#secure(grant);
    this.#noteJournal(journalled);
    const done = journalled.status === "fulfilled" && routed.status === "fulfilled";
    if (done && this.#engine.commit(grant)) {
      this.#grants.ok++;
      this.#arm();
      this.#leasesFile.touch(lease.ip);
      await this.#reply(job, { type: "ack", address, leaseMs });
      const type = renews === undefined ? "granted" : "renewed";
      this.#onEvent({ type, lease, tookMs: this.#clock.now() - job.at });
      if (replaces !== undefined) {
        this.#leasesFile.touch(replaces.ip);
        this.#onEvent({ type: "released", lease: replaces });
        await this.#dropRoute(replaces.ip);
      }
      return;
    }

    this.#grants.failed++;
    const undo = this.#engine.abort(grant);
    // Queued in this turn of the event loop: before any later grant of the same address.
    if (journalled.status === "fulfilled") this.#write(undo);
    this.#arm();
    const reason =
      routed.status === "rejected" ? "route" : journalled.status === "rejected" ? "journal" : undefined;
    if (reason !== undefined) this.#onEvent({ type: "refused", ip: lease.ip, mac: lease.mac, reason });
    if (routed.status === "rejected") {
      this.#problem(`the route to ${lease.ip} cannot be set`, routed.reason);
    } else if (renews === undefined) {
      await this.#dropRoute(lease.ip);
    }
    const answer = this.#answerToFailure(job, grant, reason);
    if (answer !== undefined) await this.#reply(job, answer);
  }

  /**
   * G2: on disk and routed before the ACK. The grants of one turn of the event loop go the way together; when they are many,
   * those of the next milliseconds too.
   */
  #secure(grant: Grant): Promise<Secured> {
    return new Promise((resolve) => {
      if (this.#unsecured.push({ grant, resolve }) > 1) return;
      if (this.#gathers) setTimeout(() => void this.#secureAll(), gatherMs);
      else process.nextTick(() => void this.#secureAll());
    });
  }

  async #secureAll(): Promise<void> {
    const grants = this.#unsecured;
    this.#unsecured = [];
    this.#gathers = grants.length >= many;
    const unrouted = grants.filter(({ grant }) => !this.#isRouted(grant)).map(({ grant }) => grant.lease.ip);
    const [[journalled], failures] = await Promise.all([
      Promise.allSettled([this.#journal.append(grants.flatMap(({ grant }) => grant.records))]),
      unrouted.length === 0 ? none : this.#network.addRoutes(unrouted),
    ]);
    for (const { grant, resolve } of grants) {
      const { ip } = grant.lease;
      const routed: PromiseSettledResult<void> = failures.has(ip)
        ? { status: "rejected", reason: failures.get(ip) }
        : { status: "fulfilled", value: undefined };
      resolve({ journalled, routed });
    }
  }

  /** A renewal sets the route again, should somebody have taken it out, but not more often than once a minute. */
  #isRouted({ renews, leaseMs }: Grant): boolean {
    if (renews === undefined) return false;
    const age = this.#clock.now() - (renews.expiry - leaseMs);
    return Math.abs(age) < routeTrustMs;
  }

  #answerToFailure(job: Job, grant: Grant, reason: "journal" | "route" | undefined): Answer | undefined {
    const { renews, address } = grant;
    if (job.request.type === "discover") return this.#drop(reason ?? "not-available"); // never a NAK (RFC 4039)
    if (reason === "journal" && renews !== undefined) {
      // The lease it renews is durable: acknowledging what is left of that keeps the guest on the network (G2).
      const leaseMs = renews.expiry - this.#clock.now();
      if (leaseMs >= 1000) return { type: "ack", address, leaseMs };
    }
    if (reason === "journal") return this.#drop("journal");
    // A guest that has the address keeps it: it asks again, and its lease is still good.
    if (reason === "route")
      return renews === undefined ? { type: "nak", reason: "not-available" } : this.#drop("route");
    const { granting } = this.#engine.options;
    if (granting === "renew-only") return this.#drop("renew-only");
    return { type: "nak", reason: granting === "refuse" ? "refusing" : "not-in-pool" };
  }

  #sweep(now: number): void {
    const expired = this.#engine.expire(now);
    if (expired.length === 0) return;
    for (const { lease } of expired) {
      this.#onEvent({ type: "expired", lease });
      this.#leasesFile.touch(lease.ip);
      this.#run(this.#dropRoute(lease.ip));
    }
    this.#write(expired.map(({ record }) => record));
  }

  async #afterEnd(ip: string, records: readonly AddressRecord[]): Promise<void> {
    this.#leasesFile.touch(ip);
    this.#write(records);
    await this.#dropRoute(ip);
  }

  /** Journals what needs no acknowledgement. Lost to a crash, it costs an address its early reuse, no more. */
  #write(records: readonly AddressRecord[]): void {
    this.#run(this.#written(records));
  }

  #written(records: readonly AddressRecord[]): Promise<void> {
    return this.#journal.append(records).then(
      () => this.#noteJournal({ status: "fulfilled", value: undefined }),
      (reason: unknown) => this.#noteJournal({ status: "rejected", reason }),
    );
  }

  /** Reports that the journal fails, once until it works again. */
  #noteJournal(result: PromiseSettledResult<void>): void {
    const failing = result.status === "rejected";
    if (failing && !this.#journalFailing) this.#problem("no new leases can be granted", result.reason);
    this.#journalFailing = failing;
  }

  async #restoreRoute(lease: Lease): Promise<void> {
    await this.#network
      .addRoute(lease.ip)
      .catch((error: unknown) => this.#problem(`the route to ${lease.ip} cannot be restored`, error));
  }

  async #dropRoute(ip: string): Promise<void> {
    await this.#network
      .removeRoute(ip)
      .catch((error: unknown) => this.#problem(`the route to ${ip} cannot be removed`, error));
  }

  /** Undefined when the reply has left already. */
  #reply(job: Job, answer: Answer): Promise<void> | undefined {
    const reply = buildReply(job.packet, answer, this.#engine.parametersFor(job.request));
    count(this.#sent, answer.type);
    if (reply.neighbour === undefined) return this.#send(reply.bytes, reply.to);
    return this.#network.setNeighbour(reply.neighbour, job.request.mac).then(
      () => this.#send(reply.bytes, reply.to),
      () => this.#send(reply.bytes, broadcastTo), // every client hears a broadcast
    );
  }

  #send(bytes: Uint8Array, to: { address: string; port: number }): Promise<void> | undefined {
    try {
      return this.#socket.send(bytes, to)?.catch(() => this.#drop("send-failed"));
    } catch {
      return this.#drop("send-failed");
    }
  }

  #arm(): void {
    if (this.#disposed !== undefined) return;
    const now = this.#clock.now();
    const at = Math.min(this.#engine.nextExpiry() ?? Number.POSITIVE_INFINITY, now + maxSweepMs);
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#sweep(this.#clock.now());
        this.#arm();
      },
      Math.max(0, at - now),
    ).unref();
  }

  #run(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#problem("a message could not be served", error))
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  #problem(message: string, error: unknown): void {
    this.#onEvent({ type: "problem", message, error });
  }

  #drop(reason: string): undefined {
    count(this.#dropped, reason);
  }
}

function count(counters: Map<string, number>, name: string): void {
  counters.set(name, (counters.get(name) ?? 0) + 1);
}
