import {
  acknowledgeMove,
  decode,
  describeError,
  type Entry,
  incarnationSchema,
  keys,
  type LeaseRecord,
  leaseSchema,
  type MovedRecord,
  movedSchema,
  prefixes,
  type Registration,
  reassertMoved,
  type Store,
  writeMovedLease,
} from "@cocoon-net/core";
import type { MovedAddress } from "@cocoon-net/dhcp";
import { AddressQueue } from "./address-queue.ts";
import { homeGateway } from "./home-gateway.ts";
import { KnownMoves, type NodeIdentity } from "./known-moves.ts";
import type { MovingBook } from "./lease-book.ts";
import type { LeaseMirror } from "./lease-mirror.ts";
import type { Logger } from "./log.ts";
import { MoveAnnouncements } from "./move-announcements.ts";
import type { MoveHost } from "./move-host.ts";
import type { PoolFile, StateDirectory } from "./state-directory.ts";

export interface MovedGuestsOptions extends NodeIdentity {
  readonly pool: PoolFile;
  readonly state: StateDirectory;
  readonly log: Logger;
}

interface Session {
  readonly store: Store;
  readonly registration: Registration;
  readonly mirror: LeaseMirror;
  readonly signal: AbortSignal;
}

interface Parts {
  readonly book: MovingBook;
  readonly host: MoveHost;
}

/** How often guests are told of moves, as long as any have to be. */
const tickMs = 1_000;
/** How often the host is held against what is known: a link that was down has lost its routes. */
const applyEveryTicks = 30;

/**
 * This node's part in moves: what `docs/design.md` says in "Moves".
 *
 * 1. What concerns this node is on disk before it acts by it, so that a restart without the store serves and holds back
 *    the same.
 * 2. Every step is decided by the record as it is now, and may be repeated: whatever was interrupted is found again.
 * 3. From the moment that a record is known, its lease is written with `writeMovedLease` only, and nothing that was to
 *    be mirrored before is under way any more (G3, G4).
 */
export class MovedGuests implements AsyncDisposable {
  readonly #options: MovedGuestsOptions;
  readonly #known: KnownMoves;
  /** Set until every address that the store may have lost was said again, or is known to be over. */
  #newIncarnation: string | undefined;
  #parts: Parts | undefined;
  /** `moved/{ip}` as the store has it. */
  readonly #entries = new Map<string, Entry>();
  readonly #unsettled: AddressQueue;
  readonly #writes = new Map<string, LeaseRecord | undefined>();
  readonly #announcements = new MoveAnnouncements();
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  #isDisposed = false;

  private constructor(options: MovedGuestsOptions, known: KnownMoves) {
    this.#options = options;
    this.#known = known;
    this.#unsettled = new AddressQueue((problem, error) =>
      options.log.warn({ err: error }, `moved address ${problem}`),
    );
  }

  /** Goes by what was known last. @throws {CorruptError} */
  static async open(options: MovedGuestsOptions): Promise<MovedGuests> {
    return new MovedGuests(options, await KnownMoves.open(options.state, options));
  }

  /** Whether the address is written about here, and not by the mirror. */
  governs(address: string): boolean {
    return this.#known.get(address) !== undefined;
  }

  /** What the DHCP server has to know. */
  places(): MovedAddress[] {
    return this.#known.toServe();
  }

  /** From now on it acts. What the host has to do by what was known last is done first. */
  async attach(parts: Parts): Promise<void> {
    this.#parts = parts;
    await this.restore();
  }

  /** The host may have lost what was set up, or has to do something else now. */
  async restore(): Promise<void> {
    this.#arm();
    await this.#parts?.host.apply(this.#known.toRoute());
  }

  /** A lease has begun, was renewed or has ended. @returns whether it is written here */
  changed(address: string, lease: LeaseRecord | undefined): boolean {
    if (!this.governs(address)) return false;
    this.#writes.set(address, lease);
    this.#unsettled.add(address);
    this.#unsettled.wake();
    return true;
  }

  /**
   * Follows `moved/` until the signal aborts. `onRead` is called when all of it was read once: what is held back is
   * known to the DHCP server then (G9).
   */
  async follow(session: Session, onRead: () => void): Promise<void> {
    const { store, registration, signal } = session;
    this.#known.registeredAs(registration.uid);
    this.#entries.clear();
    for (const ip of this.#known.addresses) void session.mirror.exclude(ip);
    const ended = new AbortController();
    const until = AbortSignal.any([signal, ended.signal]);
    const settling = this.#unsettled.work((ip) => this.#settle(session, ip), until);
    try {
      for await (const batch of store.watch(prefixes.moved, { signal })) {
        if (batch.type === "snapshot") await this.#take(session, batch.entries);
        else {
          for (const change of batch.changes) {
            if (change.type === "put") this.#see(session, change.entry);
            else this.#removed(addressOf(change.key));
          }
        }
        await this.#configure();
        onRead();
        this.#unsettled.wake();
      }
    } finally {
      ended.abort();
      await settling;
    }
  }

  /** The subnet is lost: so is everything that was moved to it or from it (G3). */
  async lose(): Promise<void> {
    this.#known.forgetAll();
    this.#writes.clear();
    await this.#configure();
    await this.restore();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    this.#arm();
  }

  get #isIdle(): boolean {
    return this.#known.addresses.length === 0 && this.#announcements.isIdle;
  }

  /** A node that no move concerns is not woken for them. */
  #arm(): void {
    if (this.#isDisposed || this.#parts === undefined || this.#isIdle) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    } else this.#timer ??= setInterval(() => void this.#tick(), tickMs).unref();
  }

  #removed(ip: string): void {
    this.#known.unreadable.delete(ip);
    if (this.#entries.delete(ip)) this.#unsettled.add(ip);
  }

  #see({ mirror }: Session, entry: Entry): void {
    const ip = addressOf(entry.key);
    let record: MovedRecord;
    try {
      record = decode(movedSchema, entry);
      this.#known.unreadable.delete(ip);
    } catch (error) {
      // Held back where it may be this node's; the others are served.
      this.#options.log.error({ err: error }, describeError(error));
      if (this.#known.isOwn(ip)) this.#known.unreadable.add(ip);
      return;
    }
    if (!this.#known.concerns(ip, record) && this.#known.get(ip) === undefined) return;
    void mirror.exclude(ip);
    this.#entries.set(ip, entry);
    this.#unsettled.add(ip);
    if (this.#known.concerns(ip, record)) {
      const gateway = this.#known.get(ip)?.gateway;
      this.#known.put(ip, { record, ...(gateway === undefined ? {} : { gateway }) });
    }
  }

  /** All of `moved/`. What it lacks has gone, unless the store may have lost it. */
  async #take(session: Session, entries: readonly Entry[]): Promise<void> {
    const { store, signal } = session;
    this.#entries.clear();
    this.#known.unreadable.clear();
    for (const entry of entries) this.#see(session, entry);
    const { entry } = await store.get(keys.incarnation, { signal });
    const incarnation = entry && decode(incarnationSchema, entry);
    const leases = this.#parts?.book.leases();
    for (const ip of this.#known.addresses) {
      this.#unsettled.add(ip);
      // What was written while the store was away.
      const [lease, known] = [leases?.get(ip), this.#known.get(ip)];
      if (lease && known && this.#known.serves(known.record) && !this.#writes.has(ip)) {
        this.#writes.set(ip, lease);
      }
    }
    if (incarnation?.id !== this.#known.incarnation) this.#newIncarnation = incarnation?.id;
    await this.#endIncarnation();
  }

  async #settle(session: Session, ip: string): Promise<void> {
    const parts = this.#parts;
    if (!parts || this.#known.unreadable.has(ip)) return;
    const entry = this.#entries.get(ip);
    const record = entry && decode(movedSchema, entry);
    if (!entry || !record || !this.#known.concerns(ip, record)) return this.#gone(session, parts, ip);
    const { registration, mirror } = session;
    await mirror.exclude(ip);
    const { move } = record;
    const toHere = move?.to === registration.node && move.toUID === registration.uid;
    if (!this.#known.isOwn(ip) && (toHere || this.#known.serves(record)))
      await this.#learnGateway(session, ip, record);
    await this.#configure();
    const isReady = move?.ready.includes(registration.node) ?? true;
    await this.#endIncarnation();
    if (!this.#known.serves(record)) {
      this.#writes.delete(ip);
      await parts.book.letGo(ip);
      await this.restore();
      if (toHere && !isReady) await this.#acknowledge(session, ip, entry);
      return;
    }
    const before = move?.from === registration.node;
    if (before && move.intent.startsWith("return-")) {
      // The guest is gone, as far as the store knows; one that is here after all keeps its address.
      if (parts.book.leases().has(ip)) this.#known.returning.delete(ip);
      else this.#known.returning.add(ip);
      await this.#configure();
      if (this.#known.returning.has(ip) && !isReady) await this.#acknowledge(session, ip, entry);
      return this.#write(session, ip, entry);
    }
    this.#known.returning.delete(ip);
    if (!before && !parts.book.leases().has(ip) && !this.#writes.has(ip)) {
      await this.#takeIn(session, parts, ip, record);
    }
    await this.restore();
    if (!isReady) await this.#acknowledge(session, ip, entry);
    await this.#write(session, ip, entry);
  }

  /** The guest goes on here, with what it was granted elsewhere. */
  async #takeIn(
    { store, registration, signal }: Session,
    { book, host }: Parts,
    ip: string,
    record: MovedRecord,
  ): Promise<void> {
    if (record.nicMACs !== undefined) await host.bringUp(record.nicMACs);
    const { entry } = await store.get(keys.pool(ip), { signal });
    const lease = entry && decode(leaseSchema, entry);
    if (lease?.node !== registration.node || lease.mac !== record.mac) return;
    await book.takeIn(ip, lease);
    if (this.#known.isOwn(ip)) this.#announcements.cameHome(ip, performance.now());
    this.#options.log.info(
      { ip, mac: record.mac, home: record.subnet },
      "serving a guest that has moved here",
    );
  }

  /** `moved/{ip}` is not there: the address is one like any other (again), or the store has lost that it is not. */
  async #gone(session: Session, { book }: Parts, ip: string): Promise<void> {
    const { store, registration, mirror, signal } = session;
    const known = this.#known.get(ip);
    if (known === undefined) return;
    if (this.#newIncarnation !== undefined && !this.#entries.has(ip)) {
      const lease = book.leases().get(ip);
      if (this.#known.serves(known.record) && lease) {
        // The watch tells of it.
        if (await reassertMoved(store, registration, ip, known.record, lease, { signal })) return;
      } else if (this.#known.isOwn(ip)) {
        const { entry } = await store.get(keys.incarnation, { signal });
        if (entry && decode(incarnationSchema, entry).recovering) {
          // Its node may be about to say it again.
          this.#lookAgain(ip);
          return;
        }
      }
    }
    if (this.#known.isOwn(ip)) {
      const { entry } = await store.get(keys.pool(ip), { signal });
      const lease = entry && decode(leaseSchema, entry);
      if (lease?.node === registration.node && !book.leases().has(ip)) {
        const { uid, node } = registration;
        this.#known.put(ip, { record: { ...known.record, node, uid, mac: lease.mac } });
        await this.#configure();
        await book.takeIn(ip, lease);
        this.#announcements.cameHome(ip, performance.now());
      }
    } else await book.letGo(ip);
    this.#known.forget(ip);
    this.#writes.delete(ip);
    await this.#configure();
    await this.restore();
    mirror.include(ip);
    const lease = book.leases().get(ip);
    if (this.#known.isOwn(ip) && lease) mirror.put(ip, lease);
    this.#options.log.info(
      { ip },
      this.#known.isOwn(ip) ? "the address is this node's again" : "the address has gone",
    );
    await this.#endIncarnation();
  }

  /** Nothing that the store may have lost is left: from now on what is missing has gone. */
  async #endIncarnation(): Promise<void> {
    if (this.#newIncarnation === undefined) return;
    if (this.#known.addresses.some((ip) => !this.#entries.has(ip))) return;
    this.#known.incarnation = this.#newIncarnation;
    this.#newIncarnation = undefined;
    await this.#known.save();
  }

  async #acknowledge({ store, registration, signal }: Session, ip: string, entry: Entry): Promise<void> {
    if (await acknowledgeMove(store, registration, entry, { signal })) {
      this.#options.log.info({ ip, node: registration.node }, "ready for the move");
    } else this.#refused(ip, entry);
  }

  async #write({ store, registration, signal }: Session, ip: string, entry: Entry): Promise<void> {
    if (!this.#writes.has(ip)) return;
    const lease = this.#writes.get(ip);
    if (!(await writeMovedLease(store, registration, entry, lease, { signal }))) this.#refused(ip, entry);
    else if (this.#writes.get(ip) === lease) this.#writes.delete(ip);
  }

  /**
   * Either the record has changed, and the watch tells; or this node's claim is another one by now, and `moved/` will
   * not tell when the heartbeat has proved it.
   */
  #refused(ip: string, entry: Entry): void {
    if (this.#entries.get(ip) === entry) this.#lookAgain(ip);
  }

  #lookAgain(ip: string): void {
    setTimeout(() => {
      this.#unsettled.add(ip);
      this.#unsettled.wake();
    }, tickMs).unref();
  }

  async #learnGateway({ store, signal }: Session, ip: string, record: MovedRecord): Promise<void> {
    const known = this.#known.get(ip);
    if (known === undefined || known.gateway !== undefined) return;
    const gateway = await homeGateway(store, record, signal);
    this.#known.put(ip, { ...known, gateway });
  }

  /** On disk, then in the DHCP server. */
  async #configure(): Promise<void> {
    await this.#known.save();
    this.#parts?.book.setMoved(this.places());
    this.#arm();
  }

  async #tick(): Promise<void> {
    const { book, host } = this.#parts ?? {};
    this.#arm();
    if (!book || !host || this.#isIdle) return;
    const { pool, log } = this.#options;
    const neighbourhood = {
      gateway: pool.gateway,
      leases: book.leases(),
      isOwn: (ip: string) => this.#known.isOwn(ip),
    };
    try {
      host.announce(this.#announcements.due(this.#known.toRoute(), neighbourhood, performance.now()));
      if (++this.#ticks % applyEveryTicks === 0) await this.restore();
    } catch (error) {
      log.warn({ err: error }, `moved addresses: ${describeError(error)}`);
    }
  }
}

function addressOf(key: string): string {
  return key.slice(prefixes.moved.length);
}
