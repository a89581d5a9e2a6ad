import { type Address, InvalidError, lastOf, parseAddress } from "@cocoon-net/core";
import { AddressTable, type PoolCounts, type Slot } from "./address-table.ts";
import type { Decision, Grant, NakReason, SilenceReason } from "./decision.ts";
import { type EngineOptions, inside, resolveEngineOptions } from "./engine-options.ts";
import { type AddressRecord, type EngineState, emptyState, type Lease } from "./lease.ts";
import { type DhcpRequest, identityOf } from "./request.ts";

/** A lease that has ended by itself; `record` is to be journalled. */
export interface Expired {
  readonly lease: Lease;
  readonly record: AddressRecord;
}

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
  /** The address of each client's newest lease, live or ended. */
  readonly #previous = new Map<string, Slot>();
  #expired: Expired[] = [];
  #seq: number;
  #now = 0;

  /** @throws {InvalidError} see `resolveEngineOptions` */
  constructor(options: EngineOptions, initial: EngineState = emptyState) {
    this.#options = resolveEngineOptions(options);
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
    if (change.pool === undefined && change.reserved === undefined && change.gateway === undefined) return;
    this.#setPool();
    for (const [client, slot] of this.#offered) if (slot.state !== "offered") this.#offered.delete(client);
    for (const [client, slot] of this.#previous) {
      if (this.#table.get(slot.address) !== slot) this.#previous.delete(client);
    }
  }

  /** Decides on one message. Never throws. */
  handle(message: DhcpRequest, now: number): Decision {
    this.#advance(now);
    const client = identityOf(message);
    if (message.type === "inform") return this.#inform(message);
    const busy = this.#offered.get(client)?.pending ?? this.#leased.get(client)?.pending;
    if (busy !== undefined) return silence("pending");
    if (message.type === "discover") return this.#discover(client, message, now);
    if (message.serverID !== undefined && message.serverID !== this.#options.gateway) {
      if (message.type === "request") this.#dropOffer(client, now);
      return silence("other-server");
    }
    if (message.type === "request") return this.#request(client, message, now);
    if (message.type === "release") return this.#release(client, message, now);
    return this.#decline(client, message, now);
  }

  /**
   * Makes a proposed grant a lease. False when it is no longer allowed (granting was restricted or the address
   * left the pool meanwhile): then `abort` it. @throws {InvalidError} when it is not a pending grant
   */
  commit(grant: Grant): boolean {
    const { slot, at } = this.#pendingOf(grant);
    const { granting } = this.#options;
    if (!slot.grantable || granting === "refuse" || (granting !== "open" && grant.renews === undefined))
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
    const { slot, at, offeredUntil } = this.#pendingOf(grant);
    slot.pending = undefined;
    if (grant.renews !== undefined) {
      this.#table.move(slot, "leased", grant.renews.expiry);
    } else if (offeredUntil > 0 && slot.grantable) {
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
  #discover(client: string, message: DhcpRequest, now: number): Decision {
    const { granting, leaseMs, offerMs } = this.#options;
    if (granting === "refuse") return silence("refusing");
    const leased = this.#leased.get(client);
    if (leased?.grantable) return { kind: "offer", address: leased.address, leaseMs };
    if (granting !== "open") return silence("renew-only"); // G7
    const slot = this.#offered.get(client) ?? this.#choose(client, message.requestedAddress);
    if (slot === undefined) return silence("pool-empty");
    this.#table.move(slot, "offered", now + offerMs);
    slot.holder = client;
    this.#offered.set(client, slot);
    return { kind: "offer", address: slot.address, leaseMs };
  }

  #choose(client: string, requested: Address | undefined): Slot | undefined {
    const previous = this.#previous.get(client);
    if (previous !== undefined && isOpenTo(previous, client)) return previous;
    const wanted = requested === undefined ? undefined : this.#table.get(requested);
    if (wanted !== undefined && isOpenTo(wanted, client)) return wanted;
    return this.#table.nextFree();
  }

  // RFC 2131 §4.3.2. SELECTING has a server identifier, RENEWING and REBINDING have ciaddr, INIT-REBOOT neither.
  #request(client: string, message: DhcpRequest, now: number): Decision {
    const { granting, subnet } = this.#options;
    const selecting = message.serverID !== undefined;
    const rebooting = !selecting && message.ciaddr === 0;
    const named = message.ciaddr === 0 || selecting ? message.requestedAddress : undefined;
    const address = named ?? message.ciaddr;
    if (address === 0) return silence("no-address");
    if (granting === "refuse") return nak("refusing", address); // G3
    if (!inside(subnet, address)) return nak("wrong-network", address);

    const slot = this.#table.get(address);
    const leasedToAnother = slot?.lease !== undefined && slot.holder !== client;
    if (rebooting && !leasedToAnother && !this.#previous.has(client)) return silence("unknown-client");
    if (slot === undefined || !slot.grantable) return nak("not-in-pool", address);
    if (leasedToAnother) return nak("leased-to-another", address);
    if (slot.pending !== undefined) return silence("pending");
    if (slot.lease === undefined) {
      if (slot.state === "offered" && slot.holder !== client) return nak("offered-to-another", address);
      if (slot.state !== "offered" && !isOpenTo(slot, client)) return nak("not-available", address);
      if (rebooting && slot.state === "free" && this.#previous.get(client) !== slot)
        return nak("moved", address);
      if (granting !== "open") return silence("renew-only"); // G7
    }
    return this.#propose(slot, client, message, now);
  }

  #propose(slot: Slot, client: string, message: DhcpRequest, now: number): Grant {
    const { leaseMs, coolDownMs } = this.#options;
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
    };
    const other = this.#leased.get(client);
    const replaces = other === slot ? undefined : other?.lease;
    const records: AddressRecord[] = [{ state: "leased", ...lease }];
    if (replaces !== undefined) {
      const { ip, mac, expiry, seq } = replaces;
      records.push({ state: "ended", ip, until: now + coolDownMs, mac, expiry, seq });
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
    slot.pending = { grant, offeredUntil: slot.state === "offered" ? slot.until : 0, at: now };
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

  #decline(client: string, message: DhcpRequest, now: number): Decision {
    if (message.requestedAddress === undefined) return silence("no-address");
    const slot = this.#table.get(message.requestedAddress);
    // A guest can take out of use only what it was given, else one guest could empty the pool.
    if (slot === undefined || slot.holder !== client) return silence("not-the-lease");
    const lease = slot.lease;
    slot.declinedUntil = now + this.#options.declineMs;
    if (lease === undefined) this.#dropOffer(client, now);
    else this.#end(slot, now);
    const records = [recordOf(slot)];
    return { kind: "decline", ip: slot.ip, ...(lease === undefined ? {} : { lease }), records };
  }

  #inform(message: DhcpRequest): Decision {
    if (this.#options.granting === "refuse") return silence("refusing");
    if (message.ciaddr === 0) return silence("no-address");
    if (!inside(this.#options.subnet, message.ciaddr)) return silence("wrong-network");
    return { kind: "inform-ack", address: message.ciaddr };
  }

  #advance(now: number): void {
    this.#now = now;
    for (let slot = this.#table.due(now); slot !== undefined; slot = this.#table.due(now)) {
      const { lease, holder } = slot;
      if (lease !== undefined) {
        this.#end(slot, lease.expiry, now);
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
    this.#remember(slot, client, lease);
    this.#table.move(slot, "leased", lease.expiry);
  }

  #remember(slot: Slot, client: string, lease: Lease): void {
    const before = slot.last === undefined ? undefined : identityOf(slot.last);
    if (before !== undefined && this.#previous.get(before) === slot) this.#previous.delete(before);
    slot.last = lease;
    this.#previous.set(client, slot);
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
    if (slot.last === undefined || this.#table.get(slot.address) === slot) return;
    const client = identityOf(slot.last);
    if (this.#previous.get(client) === slot) this.#previous.delete(client);
  }

  #pendingOf(grant: Grant): { slot: Slot; at: number; offeredUntil: number } {
    const slot = this.#table.get(grant.address);
    if (slot?.pending?.grant !== grant) {
      throw new InvalidError(`the grant of ${grant.lease.ip} to ${grant.lease.mac} is not pending`);
    }
    return { slot, at: slot.pending.at, offeredUntil: slot.pending.offeredUntil };
  }

  #setPool(): void {
    const { pool, reserved, gateway, subnet } = this.#options;
    const never = new Set([...reserved, gateway, subnet.base, lastOf(subnet)]);
    this.#table.setPool(pool, never, this.#now);
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
      this.#lease(slot, client, lease);
      return;
    }
    if (record.mac !== undefined) {
      const { ip, mac, expiry, seq } = record;
      this.#remember(slot, mac, { ip, mac, expiry, seq });
    }
    if (record.state === "declined") slot.declinedUntil = record.until;
    else slot.coolUntil = record.until;
    this.#rest(slot, 0);
  }
}

const none: readonly Expired[] = [];

/** Whether the client may take the address although it has neither lease nor offer of it. */
function isOpenTo(slot: Slot, client: string): boolean {
  if (!slot.grantable) return false;
  if (slot.state === "free") return true;
  return slot.state === "cooling" && slot.last !== undefined && identityOf(slot.last) === client;
}

function recordOf(slot: Slot): AddressRecord {
  const lease = slot.pending?.grant.lease ?? slot.lease;
  if (lease !== undefined) return { state: "leased", ...lease };
  const declined = slot.declinedUntil > slot.coolUntil;
  return {
    state: declined ? "declined" : "ended",
    ip: slot.ip,
    until: declined ? slot.declinedUntil : slot.coolUntil,
    ...(slot.last === undefined ? {} : { mac: slot.last.mac }),
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
