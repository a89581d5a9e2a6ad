import { type Address, lastOf } from "@cocoon-net/core";
import { isFresh, type PoolCounts, type Slot } from "./address-table.ts";
import { Bindings, type Expired, recordOf, type VmAssigned } from "./bindings.ts";
import { isOpenTo, mayKeep, type Own } from "./claims.ts";
import { ClientSettings } from "./client-settings.ts";
import type { Decision, Grant, NakReason, SilenceReason } from "./decision.ts";
import { type EngineOptions, inside, isHostOf, resolveEngineOptions } from "./engine-options.ts";
import { hashOf } from "./hash.ts";
import { type AddressRecord, type EngineState, emptyState, type Lease } from "./lease.ts";
import { Proposals } from "./proposals.ts";
import type { ReplyParameters } from "./reply-parameters.ts";
import { type DhcpRequest, identityOf } from "./request.ts";

export type { Expired, VmAssigned } from "./bindings.ts";

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
  readonly #held: Bindings;
  readonly #proposals: Proposals;
  #settings: ClientSettings;

  /** @throws {InvalidError} see `resolveEngineOptions` */
  constructor(options: EngineOptions, initial: EngineState = emptyState) {
    this.#options = resolveEngineOptions(options);
    this.#settings = new ClientSettings(this.#options);
    this.#held = new Bindings(this.#options.coolDownMs, initial.seq);
    this.#proposals = new Proposals(this.#held);
    this.#setPool();
    for (const record of initial.records.toSorted((one, other) => one.seq - other.seq))
      this.#held.restore(record);
  }

  get options(): Required<EngineOptions> {
    return this.#options;
  }

  /** The highest grant number ever used. */
  get seq(): number {
    return this.#held.seq;
  }

  /** Changes options while serving; no lease is lost. @throws {InvalidError} and changes nothing */
  configure(change: Partial<EngineOptions>): void {
    this.#options = resolveEngineOptions({ ...this.#options, ...change });
    this.#held.coolDownMs = this.#options.coolDownMs;
    if (Object.keys(change).some((name) => !harmless.has(name)))
      this.#settings = new ClientSettings(this.#options);
    const { pool, reserved, gateway, subnet, reservations, moved } = change;
    if ([pool, reserved, gateway, subnet, reservations, moved].every((value) => value === undefined)) return;
    this.#setPool();
    this.#held.clients.keep((slot) => this.#held.table.get(slot.address) === slot);
  }

  /**
   * Decides on one message. Never throws.
   * @param port the bridge port behind which the client is, when that is known
   */
  handle(message: DhcpRequest, now: number, port?: string): Decision {
    this.#held.advance(now);
    const client = identityOf(message);
    const where = port ?? this.portOf(client);
    // RFC 2131 §4.3.1, RFC 3011, RFC 3527: the network that a relay or an option 118 names must be ours.
    const { giaddr, network = giaddr } = message;
    if (network !== 0 && !inside(this.#options.subnet, network)) return silence("foreign-subnet");
    // The reply goes there: it must not be aimed at us, at everybody, or at the world.
    if (giaddr !== 0 && !isHostOf(this.#options, giaddr)) return silence("bad-relay");
    if (message.type === "inform") return this.#inform(message);
    const busy =
      this.#held.clients.offeredTo(client)?.pending ?? this.#held.clients.leasedTo(client)?.pending;
    if (busy !== undefined) return silence("pending");
    if (message.type === "discover") return this.#discover(client, message, now, where);
    if (message.serverID !== undefined && message.serverID !== this.parametersFor(message).serverID) {
      if (message.type === "request") this.#held.dropOffer(client, now);
      return silence("other-server");
    }
    if (message.type === "request") return this.#request(client, message, now, where);
    if (message.type === "release") return this.#release(client, message, now);
    return this.#decline(client, message, now, where);
  }

  /** Whether the client has a lease or an offer. */
  isHolder(client: string): boolean {
    return (
      this.#held.clients.leasedTo(client) !== undefined || this.#held.clients.offeredTo(client) !== undefined
    );
  }

  /** The bridge port that the client was behind when it got what it holds. */
  portOf(client: string): string | undefined {
    return this.#held.clients.offeredTo(client)?.port ?? this.#held.clients.leasedTo(client)?.port;
  }

  /** What the client is told besides its address. */
  parametersFor(message: Pick<DhcpRequest, "mac" | "clientID">): ReplyParameters {
    return this.#settings.parametersFor(message);
  }

  /**
   * Puts an offered or free address aside, because somebody uses it without a lease. @returns the record to journal;
   * undefined when it is leased or not ours to give.
   */
  putAside(address: Address, now: number): AddressRecord | undefined {
    this.#held.advance(now);
    const slot = this.#held.table.get(address);
    if (slot === undefined || slot.lease !== undefined || slot.pending !== undefined) return undefined;
    slot.declinedUntil = now + this.#options.declineMs;
    if (slot.holder !== undefined) this.#held.clients.setOffered(slot.holder, undefined);
    this.#held.rest(slot, now);
    return recordOf(slot);
  }

  /** A VM exists and has this MAC: its leases carry its id from now on, see `Bindings`. Idempotent. @throws {InvalidError} */
  assignVm(vmID: string, mac: string, now: number): VmAssigned {
    return this.#held.assignVm(vmID, mac, now);
  }

  /** The VM is gone: its leases and offers end at once, see `Bindings`. */
  removeVm(vmID: string, now: number): readonly Expired[] {
    return this.#held.removeVm(vmID, now);
  }

  /** The VM that has this MAC is gone, see `Bindings`. */
  removeMac(mac: string, now: number): readonly Expired[] {
    return this.#held.removeMac(mac, now);
  }

  /** Takes the lease of a moved guest in, see `Bindings`. @returns undefined when it cannot now */
  takeIn(lease: Omit<Lease, "seq">, now: number): { lease: Lease; record: AddressRecord } | undefined {
    return this.#held.takeIn(lease, now, this.#options.leaseMs);
  }

  /** Ends the lease of an address that another node serves from now on, see `Bindings`. */
  letGo(address: Address, now: number): AddressRecord | undefined {
    return this.#held.letGo(address, now);
  }

  /** Makes a proposed grant a lease, see `Proposals`. False when it is no longer allowed: then `abort` it. @throws {InvalidError} */
  commit(grant: Grant): boolean {
    return this.#proposals.commit(grant, this.#options.granting);
  }

  /** Takes a proposed grant back, see `Proposals`. @returns what undoes its records @throws {InvalidError} */
  abort(grant: Grant): readonly AddressRecord[] {
    return this.#proposals.abort(grant);
  }

  /** Ends what has to end by now. @returns the leases that ended since the last call, each once */
  expire(now: number): readonly Expired[] {
    return this.#held.expire(now);
  }

  /** When `expire` has something to do next; undefined when nothing will end. */
  nextExpiry(): number | undefined {
    return this.#held.nextExpiry;
  }

  /** Whether `expire` has something to do at or before this time: cheaper to ask than when. */
  endsBy(time: number): boolean {
    return this.#held.endsBy(time);
  }

  counts(): PoolCounts {
    return this.#held.table.counts();
  }

  /** The live leases, those outside the pool included. */
  *leases(): Generator<Lease> {
    for (const slot of this.#held.clients.leased()) if (slot.lease !== undefined) yield slot.lease;
  }

  /** Whether nobody holds the address, or is about to: it can leave the pool without a guest noticing. */
  isFree(address: Address): boolean {
    const slot = this.#held.table.get(address);
    return slot?.state === "free" && slot.pending === undefined;
  }

  /** The live lease of an address. */
  leaseOf(address: Address): Lease | undefined {
    return this.#held.table.get(address)?.lease;
  }

  /** What a restart needs, proposed grants included. Safe to read while messages are handled. */
  records(): Generator<AddressRecord> {
    return this.#held.records();
  }

  // RFC 2131 §4.3.1, in the order given there: current binding, earlier binding, requested, new.
  #discover(client: string, message: DhcpRequest, now: number, port: string | undefined): Decision {
    const { granting, leasesPerPort, offerMs } = this.#options;
    if (granting === "refuse") return silence("refusing");
    const own = this.#reserved(message);
    const leased = this.#held.clients.leasedTo(client);
    const mayStay = leased !== undefined && (granting === "open" ? mayKeep(leased, own) : leased.grantable);
    if (leased !== undefined && mayStay) return this.#offer(leased, client, message, now);
    if (granting !== "open") return silence("renew-only"); // G7
    const offered = this.#held.clients.offeredTo(client);
    if (offered !== undefined && !mayKeep(offered, own)) this.#held.dropOffer(client, now);
    let slot = this.#held.clients.offeredTo(client);
    if (slot === undefined) {
      if (leased === undefined && this.#isFull(port, leasesPerPort)) return silence("port-limit");
      slot = own?.open ?? this.#choose(client, message, now);
      if (slot === undefined) return silence("pool-empty");
      if (slot.state === "offered") this.#held.clients.setOffered(slot.holder ?? "", undefined); // it gives way, see `#choose`
    }
    this.#held.table.move(slot, "offered", now + offerMs);
    this.#held.table.setPort(slot, port);
    slot.holder = client;
    this.#held.clients.setOffered(client, slot);
    return this.#offer(slot, client, message, now);
  }

  #offer(slot: Slot, client: string, message: DhcpRequest, now: number): Decision {
    const probe = slot.lease === undefined && !isFresh(slot);
    // RFC 4039. What needs a probe is offered first, unless the client itself had it last.
    const known = !probe || this.#held.clients.lastOf(client) === slot;
    if (message.rapidCommit && this.#options.rapidCommit && known) {
      if (this.#options.granting === "open" || slot.lease !== undefined) {
        return this.#proposals.propose(slot, client, message, this.#leaseMs(message), now);
      }
    }
    return { kind: "offer", address: slot.address, leaseMs: this.#leaseMs(message), probe };
  }

  /** What is reserved for the client. */
  #reserved(message: DhcpRequest): Own | undefined {
    const reservation = this.#settings.reservationOf(message);
    if (reservation === undefined) return undefined;
    const slot = reservation.address === undefined ? undefined : this.#held.table.get(reservation.address);
    const isAside = slot?.state === "reserved" || slot?.state === "cooling" || slot?.state === "outside";
    const isOpen = slot?.grantable && isAside;
    return { reservation, open: isOpen ? slot : undefined };
  }

  #choose(client: string, message: DhcpRequest, now: number): Slot | undefined {
    const { clientID, requestedAddress } = message;
    const previous = this.#held.clients.lastOf(client);
    if (previous !== undefined && isOpenTo(previous, client, clientID)) return previous;
    const byClientID = this.#held.clients.lastOfClientID(clientID);
    if (byClientID !== undefined && isOpenTo(byClientID, client, clientID)) return byClientID;
    const wanted = requestedAddress === undefined ? undefined : this.#held.table.get(requestedAddress);
    if (wanted !== undefined && isOpenTo(wanted, client, clientID)) return wanted;
    const candidate = this.#candidate(client);
    if (candidate?.state === "free" && isFresh(candidate)) return candidate;
    // An offer that nobody requests must not keep others out: so no flood of DISCOVERs empties the pool for long.
    return (
      this.#held.table.nextFree() ?? this.#held.table.oldestOffer(now + this.#options.offerMs - leastHoldMs)
    );
  }

  #candidate(client: string): Slot | undefined {
    const { pool, placement } = this.#options;
    if (placement === "sequential") return undefined;
    const address = pool[hashOf(client) % pool.length];
    return address === undefined ? undefined : this.#held.table.get(address);
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
    const slot = this.#held.table.get(address);
    if (!this.#isServed(address, slot)) return nak("wrong-network", address);

    const leasedToAnother = slot?.lease !== undefined && slot.holder !== client;
    const isKnown =
      (this.#held.clients.lastOf(client) ?? this.#held.clients.lastOfClientID(clientID)) !== undefined;
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
      if (!offered && this.#held.clients.leasedTo(client) === undefined && this.#isFull(port, leasesPerPort))
        return silence("port-limit");
    }
    this.#held.table.setPort(slot, port);
    return this.#proposals.propose(slot, client, message, this.#leaseMs(message), now);
  }

  /** Whether the address is of this subnet, or one that a guest of another has brought. */
  #isServed(address: Address, slot: Slot | undefined): boolean {
    return inside(this.#options.subnet, address) || (slot?.grantable ?? false);
  }

  #isFull(port: string | undefined, limit: number): boolean {
    return port !== undefined && this.#held.table.holdersBehind(port) >= limit;
  }

  #hadLast(client: string, clientID: string | undefined, slot: Slot): boolean {
    return this.#held.clients.lastOf(client) === slot || this.#held.clients.lastOfClientID(clientID) === slot;
  }

  #leaseMs(message: DhcpRequest): number {
    return this.#settings.reservationOf(message)?.leaseMs ?? this.#options.leaseMs;
  }

  #release(client: string, message: DhcpRequest, now: number): Decision {
    const slot = this.#held.table.get(message.ciaddr);
    const lease = slot?.lease;
    // G4: only the holder ends a lease, and only the one it names.
    if (slot === undefined || lease === undefined || slot.holder !== client) return silence("not-the-lease");
    this.#held.end(slot, now);
    return { kind: "release", lease, records: [recordOf(slot)] };
  }

  #decline(client: string, message: DhcpRequest, now: number, port: string | undefined): Decision {
    if (message.requestedAddress === undefined) return silence("no-address");
    const slot = this.#held.table.get(message.requestedAddress);
    // A guest can take out of use only what it was given, else one guest could empty the pool.
    if (slot === undefined || slot.holder !== client) return silence("not-the-lease");
    const lease = slot.lease;
    // Nor can it do so with all of them, one after the other.
    const who = port ?? client;
    const isAllowed = this.#held.table.declinesOf(who) < this.#options.declinesPerClient;
    if (isAllowed) slot.declinedUntil = now + this.#options.declineMs;
    else slot.coolUntil = now + this.#options.coolDownMs;
    if (lease === undefined) this.#held.dropOffer(client, now);
    else this.#held.end(slot, now);
    if (slot.state === "declined") this.#held.table.setDeclinedBy(slot, who);
    const records = [recordOf(slot)];
    return { kind: "decline", ip: slot.ip, ...(lease === undefined ? {} : { lease }), records };
  }

  #inform(message: DhcpRequest): Decision {
    if (this.#options.granting === "refuse") return silence("refusing");
    if (message.ciaddr === 0) return silence("no-address");
    const isGuests = this.#held.table.get(message.ciaddr)?.grantable ?? false;
    if (!isGuests && !isHostOf(this.#options, message.ciaddr)) return silence("wrong-network");
    return { kind: "inform-ack", address: message.ciaddr };
  }

  #setPool(): void {
    const { pool, reserved, gateway, subnet, moved } = this.#options;
    const elsewhere = moved.filter(({ mac }) => mac === undefined).map(({ address }) => address);
    const never = new Set([...reserved, ...elsewhere, gateway, subnet.base, lastOf(subnet)]);
    const guests = new Set(moved.filter(({ mac }) => mac !== undefined).map(({ address }) => address));
    this.#held.table.setPool(
      pool,
      never,
      (address) => this.#settings.reservationAt(address),
      this.#held.now,
      guests,
    );
  }
}

/** Settings that no reply and no reservation hangs on. */
const harmless = new Set(["granting", "leaseMs", "offerMs", "coolDownMs", "declineMs", "pool", "reserved"]);

function silence(reason: SilenceReason): Decision {
  return { kind: "silence", reason };
}

function nak(reason: NakReason, address: Address): Decision {
  return { kind: "nak", reason, address };
}
