import { type Address, InvalidError, lastOf, parseAddress } from "@cocoon-net/core";
import { AddressTable, isFresh, type LastLease, type PoolCounts, type Slot } from "./address-table.ts";
import { isOpenTo, mayKeep, type Own } from "./claims.ts";
import { ClientMemory } from "./client-memory.ts";
import type { Decision, Grant, NakReason, SilenceReason } from "./decision.ts";
import { type EngineOptions, inside, isHostOf, resolveEngineOptions } from "./engine-options.ts";
import { hashOf } from "./hash.ts";
import { type AddressRecord, type EngineState, emptyState, type Lease } from "./lease.ts";
import { withMoved } from "./moved-address.ts";
import { type ReplyParameters, replyParameters } from "./reply-parameters.ts";
import { type DhcpRequest, identityOf, isMac } from "./request.ts";
import { type Reservation, Reservations } from "./reservation.ts";
import { VmRecords } from "./vm-records.ts";

/** A lease that has ended by itself, or with its VM; `record` is to be journalled. */
export interface Expired {
  readonly lease: Lease;
  readonly record: AddressRecord;
}

/** What became of a VM's lease when the VM was made known. */
export interface VmAssigned {
  /** A grant of the MAC is proposed: call again when it is settled. */
  readonly isPending: boolean;
  /** The lease that the MAC has, now with the VM's id; `record` is to be journalled. */
  readonly assigned?: { readonly lease: Lease; readonly record: AddressRecord };
  /** The lease of the VM that had the MAC before (G12). */
  readonly ended?: Expired;
}

/** An offer that nobody has requested for this long gives way when the pool is empty. */
const leastHoldMs = 10_000;

/**
 * Decides what a DHCP server answers (RFC 2131 §4.3) and keeps the state of every address. Pure and synchronous:
 * no clock, no socket, no file. `now` is milliseconds since the epoch from a clock that does not step (see
 * `steadyClock`).
 *
 * A grant is two steps, so that the caller can make it durable in between (G2): `handle` proposes it and sets the
 * address aside for the client, `commit` makes it a lease or `abort` takes it back. Meanwhile the client's other
 * messages get silence.
 */
export class LeaseEngine {
  #options: Required<EngineOptions>;
  readonly #table = new AddressTable();
  readonly #leased = new Map<string, Slot>();
  readonly #offered = new Map<string, Slot>();
  readonly #memory = new ClientMemory();
  readonly #vms = new VmRecords();
  #reservations = new Reservations([]);
  #parameters: ReplyParameters;
  /** Those of reservations with settings of their own. */
  readonly #ownParameters = new Map<Reservation, ReplyParameters>();
  #expired: Expired[] = [];
  #seq: number;
  #now = 0;

  /** @throws {InvalidError} see `resolveEngineOptions` */
  constructor(options: EngineOptions, initial: EngineState = emptyState) {
    this.#options = resolveEngineOptions(options);
    this.#parameters = this.#prepare();
    this.#seq = initial.seq;
    this.#setPool();
    for (const record of initial.records.toSorted((one, other) => one.seq - other.seq)) this.#restore(record);
  }

  get options(): Required<EngineOptions> {
    return this.#options;
  }

  /** The highest grant number ever used. */
  get seq(): number {
    return this.#seq;
  }

  /** Changes options while serving; no lease is lost. @throws {InvalidError} and changes nothing */
  configure(change: Partial<EngineOptions>): void {
    this.#options = resolveEngineOptions({ ...this.#options, ...change });
    if (Object.keys(change).some((name) => !harmless.has(name))) this.#parameters = this.#prepare();
    const { pool, reserved, gateway, subnet, reservations, moved } = change;
    if ([pool, reserved, gateway, subnet, reservations, moved].every((value) => value === undefined)) return;
    this.#setPool();
    for (const [client, slot] of this.#offered) if (slot.state !== "offered") this.#offered.delete(client);
    this.#memory.keep((slot) => this.#table.get(slot.address) === slot);
  }

  /**
   * Decides on one message. Never throws.
   * @param port the bridge port behind which the client is, when that is known
   */
  handle(message: DhcpRequest, now: number, port?: string): Decision {
    this.#advance(now);
    const client = identityOf(message);
    const where = port ?? this.portOf(client);
    // RFC 2131 §4.3.1, RFC 3011, RFC 3527: the network that a relay or an option 118 names must be ours.
    const { giaddr, network = giaddr } = message;
    if (network !== 0 && !inside(this.#options.subnet, network)) return silence("foreign-subnet");
    // The reply goes there: it must not be aimed at us, at everybody, or at the world.
    if (giaddr !== 0 && !isHostOf(this.#options, giaddr)) return silence("bad-relay");
    if (message.type === "inform") return this.#inform(message);
    const busy = this.#offered.get(client)?.pending ?? this.#leased.get(client)?.pending;
    if (busy !== undefined) return silence("pending");
    if (message.type === "discover") return this.#discover(client, message, now, where);
    if (message.serverID !== undefined && message.serverID !== this.parametersFor(message).serverID) {
      if (message.type === "request") this.#dropOffer(client, now);
      return silence("other-server");
    }
    if (message.type === "request") return this.#request(client, message, now, where);
    if (message.type === "release") return this.#release(client, message, now);
    return this.#decline(client, message, now, where);
  }

  /** Whether the client has a lease or an offer. */
  isHolder(client: string): boolean {
    return this.#leased.has(client) || this.#offered.has(client);
  }

  /** The bridge port that the client was behind when it got what it holds. */
  portOf(client: string): string | undefined {
    return this.#offered.get(client)?.port ?? this.#leased.get(client)?.port;
  }

  /** What the client is told besides its address. */
  parametersFor(message: Pick<DhcpRequest, "mac" | "clientID">): ReplyParameters {
    const reservation = this.#reservations.of(message.mac, message.clientID);
    return (reservation && this.#ownParameters.get(reservation)) ?? this.#parameters;
  }

  /**
   * Puts an offered or free address aside, because somebody uses it without a lease. @returns the record to journal;
   * undefined when it is leased or not ours to give.
   */
  putAside(address: Address, now: number): AddressRecord | undefined {
    this.#advance(now);
    const slot = this.#table.get(address);
    if (slot === undefined || slot.lease !== undefined || slot.pending !== undefined) return undefined;
    slot.declinedUntil = now + this.#options.declineMs;
    if (slot.holder !== undefined) this.#offered.delete(slot.holder);
    this.#rest(slot, now);
    return recordOf(slot);
  }

  /**
   * A VM exists and has this MAC (it may have several): its leases carry its id from now on. A lease that stems from another
   * VM with this MAC ends, and is not inherited (G12). Idempotent. @throws {InvalidError} when that is no MAC
   */
  assignVm(vmID: string, mac: string, now: number): VmAssigned {
    this.#advance(now);
    const client = identityOf({ mac });
    if (!isMac(mac)) throw new InvalidError(`"${mac}" of VM ${vmID} is not a MAC like 52:54:00:ab:cd:ef`);
    const before = this.#vms.of(client);
    const isOther = before !== undefined && before !== vmID;
    const ended = isOther ? this.#endClient(client, now) : undefined;
    this.#vms.set(vmID, client);
    const slot = this.#leased.get(client);
    const isPending = (slot?.pending ?? this.#offered.get(client)?.pending) !== undefined;
    if (isPending || slot?.lease === undefined || slot.lease.vmID === vmID) {
      return ended === undefined ? { isPending } : { isPending, ended };
    }
    slot.lease = { ...slot.lease, vmID };
    return { isPending, assigned: { lease: slot.lease, record: recordOf(slot) } };
  }

  /** The VM is gone: its leases and offers end at once, and no other VM with its MACs inherits its addresses. */
  removeVm(vmID: string, now: number): readonly Expired[] {
    this.#advance(now);
    const clients = this.#vms.remove(vmID);
    return clients.map((client) => this.#endClient(client, now)).filter((ended) => ended !== undefined);
  }

  /**
   * Takes the lease of a moved guest in, for whom the address is listed in `moved`. It lasts for at least one lease time
   * from now: its end was told by another machine's clock. What else the client has here ends (`expire` tells). @returns the record to be journalled; undefined when the address is another's, or a grant of it
   * is pending: then again later
   */
  takeIn(lease: Omit<Lease, "seq">, now: number): { lease: Lease; record: AddressRecord } | undefined {
    this.#advance(now);
    const slot = this.#table.get(parseAddress(lease.ip));
    const client = identityOf(lease);
    const isIts =
      slot?.grantable && slot.reservation?.mac === lease.mac && (slot.holder ?? client) === client;
    const pending = slot?.pending ?? this.#offered.get(client)?.pending ?? this.#leased.get(client)?.pending;
    if (slot === undefined || !isIts || pending !== undefined) return undefined;
    if (slot.lease !== undefined && slot.lease.expiry >= lease.expiry) {
      return { lease: slot.lease, record: recordOf(slot) };
    }
    const other = this.#leased.get(client);
    if (other?.lease !== undefined && other !== slot) {
      const ended = other.lease;
      this.#end(other, now);
      this.#expired.push({ lease: ended, record: recordOf(other) });
    }
    this.#dropOffer(client, now);
    if (lease.vmID !== undefined) this.#vms.set(lease.vmID, client);
    const expiry = Math.max(lease.expiry, now + this.#options.leaseMs);
    const taken: Lease = { ...lease, expiry, seq: ++this.#seq };
    this.#lease(slot, client, taken);
    return { lease: taken, record: recordOf(slot) };
  }

  /**
   * Ends the lease of an address that another node serves from now on; not an end that anybody else is told of.
   * @returns the record to be journalled; undefined when there was no lease
   */
  letGo(address: Address, now: number): AddressRecord | undefined {
    this.#advance(now);
    const slot = this.#table.get(address);
    if (slot === undefined) return undefined;
    if (slot.pending !== undefined) {
      slot.pending.isVoid = true;
      return undefined;
    }
    if (slot.lease === undefined) return undefined;
    this.#end(slot, now);
    return recordOf(slot);
  }

  /**
   * Makes a proposed grant a lease. False when it is no longer allowed (granting was restricted or the address
   * left the pool meanwhile): then `abort` it. @throws {InvalidError} when it is not a pending grant
   */
  commit(grant: Grant): boolean {
    const { slot, at, isVoid } = this.#pendingOf(grant);
    const { granting } = this.#options;
    if (
      isVoid ||
      !slot.grantable ||
      granting === "refuse" ||
      (granting !== "open" && grant.renews === undefined)
    )
      return false;
    const client = identityOf(grant.lease);
    slot.pending = undefined;
    this.#offered.delete(client);
    const other = this.#leased.get(client);
    if (other !== undefined && other !== slot) this.#end(other, at);
    this.#lease(slot, client, grant.lease);
    return true;
  }

  /**
   * Takes a proposed grant back. @returns records that undo those of the grant, to be journalled when those
   * were. @throws {InvalidError} when it is not a pending grant
   */
  abort(grant: Grant): readonly AddressRecord[] {
    const { slot, at, offeredUntil, isVoid } = this.#pendingOf(grant);
    slot.pending = undefined;
    if (isVoid) this.#memory.forget(slot);
    if (grant.renews !== undefined) {
      this.#table.move(slot, "leased", isVoid ? at : grant.renews.expiry);
    } else if (offeredUntil > 0 && slot.grantable && !isVoid) {
      this.#table.move(slot, "offered", offeredUntil);
    } else {
      this.#offered.delete(identityOf(grant.lease));
      this.#rest(slot, at);
    }
    const replaced =
      grant.replaces === undefined ? undefined : this.#table.get(parseAddress(grant.replaces.ip));
    return replaced === undefined ? [recordOf(slot)] : [recordOf(slot), recordOf(replaced)];
  }

  /** Ends what has to end by now. @returns the leases that ended since the last call, each once */
  expire(now: number): readonly Expired[] {
    this.#advance(now);
    if (this.#expired.length === 0) return none;
    const expired = this.#expired;
    this.#expired = [];
    return expired;
  }

  /** When `expire` has something to do next; undefined when nothing will end. */
  nextExpiry(): number | undefined {
    return this.#expired.length > 0 ? this.#now : this.#table.nextDue();
  }

  counts(): PoolCounts {
    return this.#table.counts();
  }

  /** The live leases, those outside the pool included. */
  *leases(): Generator<Lease> {
    for (const slot of this.#leased.values()) if (slot.lease !== undefined) yield slot.lease;
  }

  /** Whether nobody holds the address, or is about to: it can leave the pool without a guest noticing. */
  isFree(address: Address): boolean {
    const slot = this.#table.get(address);
    return slot?.state === "free" && slot.pending === undefined;
  }

  /** The live lease of an address. */
  leaseOf(address: Address): Lease | undefined {
    return this.#table.get(address)?.lease;
  }

  /** What a restart needs, proposed grants included. Safe to read while messages are handled. */
  *records(): Generator<AddressRecord> {
    for (const slot of this.#table.slots()) {
      if (slot.last !== undefined || slot.pending !== undefined || slot.declinedUntil > 0)
        yield recordOf(slot);
    }
  }

  // RFC 2131 §4.3.1, in the order given there: current binding, earlier binding, requested, new.
  #discover(client: string, message: DhcpRequest, now: number, port: string | undefined): Decision {
    const { granting, leasesPerPort, offerMs } = this.#options;
    if (granting === "refuse") return silence("refusing");
    const own = this.#reserved(message);
    const leased = this.#leased.get(client);
    const mayStay = leased !== undefined && (granting === "open" ? mayKeep(leased, own) : leased.grantable);
    if (leased !== undefined && mayStay) return this.#offer(leased, client, message, now);
    if (granting !== "open") return silence("renew-only"); // G7
    const offered = this.#offered.get(client);
    if (offered !== undefined && !mayKeep(offered, own)) this.#dropOffer(client, now);
    let slot = this.#offered.get(client);
    if (slot === undefined) {
      if (leased === undefined && this.#isFull(port, leasesPerPort)) return silence("port-limit");
      slot = own?.open ?? this.#choose(client, message, now);
      if (slot === undefined) return silence("pool-empty");
      if (slot.state === "offered") this.#offered.delete(slot.holder ?? ""); // it gives way, see `#choose`
    }
    this.#table.move(slot, "offered", now + offerMs);
    this.#table.setPort(slot, port);
    slot.holder = client;
    this.#offered.set(client, slot);
    return this.#offer(slot, client, message, now);
  }

  #offer(slot: Slot, client: string, message: DhcpRequest, now: number): Decision {
    const probe = slot.lease === undefined && !isFresh(slot);
    // RFC 4039. What needs a probe is offered first, unless the client itself had it last.
    const known = !probe || this.#memory.of(client) === slot;
    if (message.rapidCommit && this.#options.rapidCommit && known) {
      if (this.#options.granting === "open" || slot.lease !== undefined) {
        return this.#propose(slot, client, message, now);
      }
    }
    return { kind: "offer", address: slot.address, leaseMs: this.#leaseMs(message), probe };
  }

  /** What is reserved for the client. */
  #reserved(message: DhcpRequest): Own | undefined {
    const reservation = this.#reservations.of(message.mac, message.clientID);
    if (reservation === undefined) return undefined;
    const slot = reservation.address === undefined ? undefined : this.#table.get(reservation.address);
    const isAside = slot?.state === "reserved" || slot?.state === "cooling" || slot?.state === "outside";
    const isOpen = slot?.grantable && isAside;
    return { reservation, open: isOpen ? slot : undefined };
  }

  #choose(client: string, message: DhcpRequest, now: number): Slot | undefined {
    const { clientID, requestedAddress } = message;
    const previous = this.#memory.of(client);
    if (previous !== undefined && isOpenTo(previous, client, clientID)) return previous;
    const byClientID = this.#memory.ofClientID(clientID);
    if (byClientID !== undefined && isOpenTo(byClientID, client, clientID)) return byClientID;
    const wanted = requestedAddress === undefined ? undefined : this.#table.get(requestedAddress);
    if (wanted !== undefined && isOpenTo(wanted, client, clientID)) return wanted;
    const candidate = this.#candidate(client);
    if (candidate?.state === "free" && isFresh(candidate)) return candidate;
    // An offer that nobody requests must not keep others out: so no flood of DISCOVERs empties the pool for long.
    return this.#table.nextFree() ?? this.#table.oldestOffer(now + this.#options.offerMs - leastHoldMs);
  }

  #candidate(client: string): Slot | undefined {
    const { pool, placement } = this.#options;
    if (placement === "sequential") return undefined;
    const address = pool[hashOf(client) % pool.length];
    return address === undefined ? undefined : this.#table.get(address);
  }

  // RFC 2131 §4.3.2. SELECTING has a server identifier, RENEWING and REBINDING have ciaddr, INIT-REBOOT neither.
  #request(client: string, message: DhcpRequest, now: number, port: string | undefined): Decision {
    const { granting, leasesPerPort } = this.#options;
    const { clientID } = message;
    const selecting = message.serverID !== undefined;
    const rebooting = !selecting && message.ciaddr === 0;
    const named = message.ciaddr === 0 || selecting ? message.requestedAddress : undefined;
    const address = named ?? message.ciaddr;
    if (address === 0) return silence("no-address");
    if (granting === "refuse") return nak("refusing", address); // G3
    const slot = this.#table.get(address);
    if (!this.#isServed(address, slot)) return nak("wrong-network", address);

    const leasedToAnother = slot?.lease !== undefined && slot.holder !== client;
    const isKnown = (this.#memory.of(client) ?? this.#memory.ofClientID(clientID)) !== undefined;
    if (rebooting && !leasedToAnother && !isKnown) return silence("unknown-client");
    // It may be about to follow its address: until then it keeps it.
    const isElsewhere = this.#options.moved.some((moved) => moved.address === address && !moved.mac);
    if (isElsewhere && !selecting && !rebooting) return silence("served-elsewhere");
    if (slot === undefined || !slot.grantable) return nak("not-in-pool", address);
    if (leasedToAnother) return nak("leased-to-another", address);
    if (slot.pending !== undefined) return silence("pending");
    const own = this.#reserved(message);
    if (slot.lease === undefined || granting === "open") {
      if (slot.reservation !== undefined && slot.reservation !== own?.reservation)
        return nak("reserved", address);
      if (!mayKeep(slot, own) && own?.open !== slot) return nak("moved", address);
    }
    if (slot.lease === undefined) {
      const offered = slot.state === "offered";
      if (offered && slot.holder !== client) return nak("offered-to-another", address);
      if (!offered && own?.open !== slot && !isOpenTo(slot, client, clientID))
        return nak("not-available", address);
      if (rebooting && slot.state === "free" && !this.#hadLast(client, clientID, slot))
        return nak("moved", address);
      if (granting !== "open") return silence("renew-only"); // G7
      if (!offered && !this.#leased.has(client) && this.#isFull(port, leasesPerPort))
        return silence("port-limit");
    }
    this.#table.setPort(slot, port);
    return this.#propose(slot, client, message, now);
  }

  /** Whether the address is of this subnet, or one that a guest of another has brought. */
  #isServed(address: Address, slot: Slot | undefined): boolean {
    return inside(this.#options.subnet, address) || (slot?.grantable ?? false);
  }

  #isFull(port: string | undefined, limit: number): boolean {
    return port !== undefined && this.#table.holdersBehind(port) >= limit;
  }

  #hadLast(client: string, clientID: string | undefined, slot: Slot): boolean {
    return this.#memory.of(client) === slot || this.#memory.ofClientID(clientID) === slot;
  }

  #leaseMs(message: DhcpRequest): number {
    return this.#reservations.of(message.mac, message.clientID)?.leaseMs ?? this.#options.leaseMs;
  }

  #propose(slot: Slot, client: string, message: DhcpRequest, now: number): Grant {
    const { coolDownMs } = this.#options;
    const leaseMs = this.#leaseMs(message);
    const vmID = this.#vms.of(client);
    const renews = slot.lease;
    const hostname = message.hostname ?? renews?.hostname;
    const clientID = message.clientID ?? renews?.clientID;
    const lease: Lease = {
      mac: message.mac,
      ip: slot.ip,
      // Rounded up: never earlier than the client believes, and `leases.json` holds whole seconds.
      expiry: Math.ceil((now + leaseMs) / 1000) * 1000,
      seq: ++this.#seq,
      ...(hostname === undefined ? {} : { hostname }),
      ...(clientID === undefined ? {} : { clientID }),
      ...(vmID === undefined ? {} : { vmID }),
    };
    const other = this.#leased.get(client);
    const replaces = other === slot ? undefined : other?.lease;
    const records: AddressRecord[] = [{ state: "leased", ...lease }];
    if (replaces !== undefined) {
      const { ip, mac, expiry, seq } = replaces;
      const id = replaces.clientID === undefined ? {} : { clientID: replaces.clientID };
      records.push({ state: "ended", ip, until: now + coolDownMs, mac, ...id, expiry, seq });
    }
    const grant: Grant = {
      kind: "grant",
      address: slot.address,
      leaseMs,
      lease,
      ...(renews === undefined ? {} : { renews }),
      ...(replaces === undefined ? {} : { replaces }),
      records,
    };
    if (this.#offered.get(client) !== slot) this.#dropOffer(client, now);
    // Nothing ends the address while the grant is pending (G2): neither its offer nor the lease it renews.
    const offeredUntil = slot.state === "offered" ? slot.until : 0;
    slot.pending = { grant, offeredUntil, at: now, isVoid: false };
    this.#table.move(slot, renews === undefined ? "offered" : "leased");
    slot.holder = client;
    if (renews === undefined) this.#offered.set(client, slot);
    return grant;
  }

  #release(client: string, message: DhcpRequest, now: number): Decision {
    const slot = this.#table.get(message.ciaddr);
    const lease = slot?.lease;
    // G4: only the holder ends a lease, and only the one it names.
    if (slot === undefined || lease === undefined || slot.holder !== client) return silence("not-the-lease");
    this.#end(slot, now);
    return { kind: "release", lease, records: [recordOf(slot)] };
  }

  #decline(client: string, message: DhcpRequest, now: number, port: string | undefined): Decision {
    if (message.requestedAddress === undefined) return silence("no-address");
    const slot = this.#table.get(message.requestedAddress);
    // A guest can take out of use only what it was given, else one guest could empty the pool.
    if (slot === undefined || slot.holder !== client) return silence("not-the-lease");
    const lease = slot.lease;
    // Nor can it do so with all of them, one after the other.
    const who = port ?? client;
    const isAllowed = this.#table.declinesOf(who) < this.#options.declinesPerClient;
    if (isAllowed) slot.declinedUntil = now + this.#options.declineMs;
    else slot.coolUntil = now + this.#options.coolDownMs;
    if (lease === undefined) this.#dropOffer(client, now);
    else this.#end(slot, now);
    if (slot.state === "declined") this.#table.setDeclinedBy(slot, who);
    const records = [recordOf(slot)];
    return { kind: "decline", ip: slot.ip, ...(lease === undefined ? {} : { lease }), records };
  }

  #inform(message: DhcpRequest): Decision {
    if (this.#options.granting === "refuse") return silence("refusing");
    if (message.ciaddr === 0) return silence("no-address");
    const isGuests = this.#table.get(message.ciaddr)?.grantable ?? false;
    if (!isGuests && !isHostOf(this.#options, message.ciaddr)) return silence("wrong-network");
    return { kind: "inform-ack", address: message.ciaddr };
  }

  #advance(now: number): void {
    this.#now = now;
    for (let slot = this.#table.due(now); slot !== undefined; slot = this.#table.due(now)) {
      const { lease, holder } = slot;
      if (lease !== undefined) {
        this.#end(slot, Math.min(lease.expiry, now), now);
        this.#expired.push({ lease, record: recordOf(slot) });
      } else {
        if (slot.state === "offered" && holder !== undefined) this.#offered.delete(holder);
        this.#rest(slot, now);
      }
    }
  }

  #lease(slot: Slot, client: string, lease: Lease): void {
    slot.lease = lease;
    slot.holder = client;
    this.#leased.set(client, slot);
    this.#memory.remember(slot, lease);
    this.#table.move(slot, "leased", lease.expiry);
  }

  /** Ends all that a client has, and its claim to what it had. */
  #endClient(client: string, now: number): Expired | undefined {
    const previous = this.#memory.of(client);
    for (const slot of [this.#offered.get(client), this.#leased.get(client)]) {
      if (slot?.pending !== undefined) slot.pending.isVoid = true;
    }
    if (this.#offered.get(client)?.pending === undefined) this.#dropOffer(client, now);
    const slot = this.#leased.get(client);
    const lease = slot?.lease;
    if (slot === undefined || lease === undefined || slot.pending !== undefined) {
      if (previous !== undefined && previous.lease === undefined) this.#memory.forget(previous);
      return undefined;
    }
    this.#memory.forget(slot);
    this.#end(slot, now);
    return { lease, record: recordOf(slot) };
  }

  /** Ends a lease at `end`; the address rests from then on. */
  #end(slot: Slot, end: number, now: number = end): void {
    if (slot.holder !== undefined) this.#leased.delete(slot.holder);
    slot.coolUntil = end + this.#options.coolDownMs;
    this.#rest(slot, now);
  }

  #dropOffer(client: string, now: number): void {
    const slot = this.#offered.get(client);
    if (slot === undefined) return;
    this.#offered.delete(client);
    this.#rest(slot, now);
  }

  #rest(slot: Slot, now: number): void {
    this.#table.rest(slot, now);
    if (this.#table.get(slot.address) !== slot) this.#memory.forget(slot);
  }

  #pendingOf(grant: Grant): { slot: Slot; at: number; offeredUntil: number; isVoid: boolean } {
    const slot = this.#table.get(grant.address);
    if (slot?.pending?.grant !== grant) {
      throw new InvalidError(`the grant of ${grant.lease.ip} to ${grant.lease.mac} is not pending`);
    }
    const { at, offeredUntil, isVoid } = slot.pending;
    return { slot, at, offeredUntil, isVoid };
  }

  /** Takes in the options that replies and reservations hang on. */
  #prepare(): ReplyParameters {
    const { moved } = this.#options;
    const reservations = withMoved(this.#options.reservations, moved);
    const homes = new Map(moved.map(({ address, home }) => [address, home]));
    this.#reservations = new Reservations(reservations);
    this.#ownParameters.clear();
    for (const reservation of reservations) {
      const home = reservation.address === undefined ? undefined : homes.get(reservation.address);
      if (reservation.options === undefined && home === undefined) continue;
      const options = { ...this.#options, ...home };
      this.#ownParameters.set(reservation, replyParameters(options, reservation.options));
    }
    return replyParameters(this.#options);
  }

  #setPool(): void {
    const { pool, reserved, gateway, subnet, moved } = this.#options;
    const elsewhere = moved.filter(({ mac }) => mac === undefined).map(({ address }) => address);
    const never = new Set([...reserved, ...elsewhere, gateway, subnet.base, lastOf(subnet)]);
    const guests = new Set(moved.filter(({ mac }) => mac !== undefined).map(({ address }) => address));
    this.#table.setPool(pool, never, (address) => this.#reservations.at(address), this.#now, guests);
  }

  /** Takes a stored record in. What has ended since is found by the first `#advance`, like any other end. */
  #restore(record: AddressRecord): void {
    this.#seq = Math.max(this.#seq, record.seq);
    const address = parseAddress(record.ip);
    const slot = this.#table.get(address) ?? this.#table.addOutside(address);
    if (record.state === "leased") {
      const { state, ...lease } = record;
      const client = identityOf(lease);
      const older = this.#leased.get(client);
      if (older?.lease !== undefined) {
        const ended = older.lease;
        this.#end(older, ended.expiry, 0);
        this.#expired.push({ lease: ended, record: recordOf(older) });
      }
      if (lease.vmID !== undefined) this.#vms.set(lease.vmID, client);
      this.#lease(slot, client, lease);
      return;
    }
    // What was put aside before anybody had it stays "never leased".
    if (record.seq > 0 || record.mac !== undefined) {
      const { mac, clientID, expiry, seq } = record;
      const last: LastLease = { ...(mac && { mac }), ...(clientID && { clientID }), expiry, seq };
      this.#memory.remember(slot, last);
    }
    if (record.state === "declined") slot.declinedUntil = record.until;
    else slot.coolUntil = record.until;
    this.#rest(slot, 0);
  }
}

const none: readonly Expired[] = [];

/** Settings that no reply and no reservation hangs on. */
const harmless = new Set(["granting", "leaseMs", "offerMs", "coolDownMs", "declineMs", "pool", "reserved"]);

function recordOf(slot: Slot): AddressRecord {
  const lease = slot.pending?.grant.lease ?? slot.lease;
  if (lease !== undefined) return { state: "leased", ...lease };
  const declined = slot.declinedUntil > slot.coolUntil;
  return {
    state: declined ? "declined" : "ended",
    ip: slot.ip,
    until: declined ? slot.declinedUntil : slot.coolUntil,
    ...(slot.last?.mac === undefined ? {} : { mac: slot.last.mac }),
    ...(slot.last?.clientID === undefined ? {} : { clientID: slot.last.clientID }),
    expiry: slot.last?.expiry ?? 0,
    seq: slot.last?.seq ?? 0,
  };
}

function silence(reason: SilenceReason): Decision {
  return { kind: "silence", reason };
}

function nak(reason: NakReason, address: Address): Decision {
  return { kind: "nak", reason, address };
}
