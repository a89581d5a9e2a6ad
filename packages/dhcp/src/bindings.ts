import { type Address, InvalidError, parseAddress } from "@cocoon-net/core";
import { AddressTable, type LastLease, type Slot } from "./address-table.ts";
import { Clients } from "./clients.ts";
import type { AddressRecord, Lease } from "./lease.ts";
import { identityOf, isMac } from "./request.ts";
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

/** Who has which address, and how it ends: what a `LeaseEngine` decides upon. */
export class Bindings {
  readonly table: AddressTable = new AddressTable();
  readonly clients: Clients = new Clients();
  readonly vms: VmRecords = new VmRecords();
  /** How long an address rests before another client may have it. */
  coolDownMs: number;
  /** The highest grant number ever used. */
  seq: number;
  /** Of the newest `advance`. */
  now = 0;
  #expired: Expired[] = [];

  constructor(coolDownMs: number, seq: number) {
    this.coolDownMs = coolDownMs;
    this.seq = seq;
  }

  /** When `expire` has something to do next; undefined when nothing will end. */
  get nextExpiry(): number | undefined {
    return this.#expired.length > 0 ? this.now : this.table.nextDue();
  }

  /** Whether `expire` has something to do at or before this time. */
  endsBy(time: number): boolean {
    return this.#expired.length > 0 || this.table.due(time) !== undefined;
  }

  /** Ends what has to end by now. @returns the leases that ended since the last call, each once */
  expire(now: number): readonly Expired[] {
    this.advance(now);
    if (this.#expired.length === 0) return none;
    const expired = this.#expired;
    this.#expired = [];
    return expired;
  }

  /** Ends what has to end by now; `expire` tells. */
  advance(now: number): void {
    this.now = now;
    for (let slot = this.table.due(now); slot !== undefined; slot = this.table.due(now)) {
      const { lease, holder } = slot;
      if (lease !== undefined) {
        this.end(slot, Math.min(lease.expiry, now), now);
        this.#expired.push({ lease, record: recordOf(slot) });
      } else {
        if (slot.state === "offered" && holder !== undefined) this.clients.setOffered(holder, undefined);
        this.rest(slot, now);
      }
    }
  }

  /** The address is the client's from now on. */
  lease(slot: Slot, client: string, lease: Lease): void {
    slot.lease = lease;
    slot.holder = client;
    this.clients.setLeased(client, slot);
    this.clients.remember(slot, lease);
    this.table.move(slot, "leased", lease.expiry);
  }

  /** Ends all that a client has, and its claim to what it had. */
  endClient(client: string, now: number): Expired | undefined {
    const previous = this.clients.lastOf(client);
    for (const slot of [this.clients.offeredTo(client), this.clients.leasedTo(client)]) {
      if (slot?.pending !== undefined) slot.pending.isVoid = true;
    }
    if (this.clients.offeredTo(client)?.pending === undefined) this.dropOffer(client, now);
    const slot = this.clients.leasedTo(client);
    const lease = slot?.lease;
    if (slot === undefined || lease === undefined || slot.pending !== undefined) {
      if (previous !== undefined && previous.lease === undefined) this.clients.forget(previous);
      return undefined;
    }
    this.clients.forget(slot);
    this.end(slot, now);
    return { lease, record: recordOf(slot) };
  }

  /** Ends a lease at `end`; the address rests from then on. */
  end(slot: Slot, end: number, now: number = end): void {
    if (slot.holder !== undefined) this.clients.setLeased(slot.holder, undefined);
    slot.coolUntil = end + this.coolDownMs;
    this.rest(slot, now);
  }

  /** Ends a lease that its client has left behind; `expire` tells. */
  #displace(slot: Slot, lease: Lease, end: number, now: number = end): void {
    this.end(slot, end, now);
    this.#expired.push({ lease, record: recordOf(slot) });
  }

  /** Takes an offer back. */
  dropOffer(client: string, now: number): void {
    const slot = this.clients.offeredTo(client);
    if (slot === undefined) return;
    this.clients.setOffered(client, undefined);
    this.rest(slot, now);
  }

  /** Moves an address that nobody holds to where it belongs, see `AddressTable.rest`. */
  rest(slot: Slot, now: number): void {
    this.table.rest(slot, now);
    if (this.table.get(slot.address) !== slot) this.clients.forget(slot);
  }

  /**
   * A VM exists and has this MAC (it may have several): its leases carry its id from now on. A lease that stems from another
   * VM with this MAC ends, and is not inherited (G12). Idempotent. @throws {InvalidError} when that is no MAC
   */
  assignVm(vmID: string, mac: string, now: number): VmAssigned {
    this.advance(now);
    const client = identityOf({ mac });
    if (!isMac(mac)) throw new InvalidError(`"${mac}" of VM ${vmID} is not a MAC like 52:54:00:ab:cd:ef`);
    const before = this.vms.of(client);
    const isOther = before !== undefined && before !== vmID;
    const ended = isOther ? this.endClient(client, now) : undefined;
    this.vms.set(vmID, client);
    const slot = this.clients.leasedTo(client);
    const isPending = (slot?.pending ?? this.clients.offeredTo(client)?.pending) !== undefined;
    if (isPending || slot?.lease === undefined || slot.lease.vmID === vmID) {
      return ended === undefined ? { isPending } : { isPending, ended };
    }
    slot.lease = { ...slot.lease, vmID };
    return { isPending, assigned: { lease: slot.lease, record: recordOf(slot) } };
  }

  /** The VM is gone: its leases and offers end at once, and no other VM with its MACs inherits its addresses. */
  removeVm(vmID: string, now: number): readonly Expired[] {
    this.advance(now);
    const clients = this.vms.remove(vmID);
    return clients.map((client) => this.endClient(client, now)).filter((ended) => ended !== undefined);
  }

  /** The VM that has this MAC is gone, whichever it was: its lease or offer ends as with `removeVm`. Idempotent. */
  removeMac(mac: string, now: number): readonly Expired[] {
    this.advance(now);
    const client = identityOf({ mac });
    this.vms.forget(client);
    const ended = this.endClient(client, now);
    return ended === undefined ? [] : [ended];
  }

  /**
   * Takes the lease of a moved guest in, for whom the address is listed in `moved`. It lasts for at least `leastMs` from
   * now: its end was told by another machine's clock. What else the client has here ends (`expire` tells).
   * @returns the record to be journalled; undefined when the address is another's, or a grant of it is pending: then
   * again later
   */
  takeIn(
    lease: Omit<Lease, "seq">,
    now: number,
    leastMs: number,
  ): { lease: Lease; record: AddressRecord } | undefined {
    this.advance(now);
    const slot = this.table.get(parseAddress(lease.ip));
    const client = identityOf(lease);
    const isIts =
      slot?.grantable && slot.reservation?.mac === lease.mac && (slot.holder ?? client) === client;
    const pending =
      slot?.pending ?? this.clients.offeredTo(client)?.pending ?? this.clients.leasedTo(client)?.pending;
    if (slot === undefined || !isIts || pending !== undefined) return undefined;
    if (slot.lease !== undefined && slot.lease.expiry >= lease.expiry) {
      return { lease: slot.lease, record: recordOf(slot) };
    }
    const other = this.clients.leasedTo(client);
    if (other?.lease !== undefined && other !== slot) this.#displace(other, other.lease, now);
    this.dropOffer(client, now);
    if (lease.vmID !== undefined) this.vms.set(lease.vmID, client);
    const expiry = Math.max(lease.expiry, now + leastMs);
    const taken: Lease = { ...lease, expiry, seq: ++this.seq };
    this.lease(slot, client, taken);
    return { lease: taken, record: recordOf(slot) };
  }

  /**
   * Ends the lease of an address that another node serves from now on; not an end that anybody else is told of.
   * @returns the record to be journalled; undefined when there was no lease
   */
  letGo(address: Address, now: number): AddressRecord | undefined {
    this.advance(now);
    const slot = this.table.get(address);
    if (slot === undefined) return undefined;
    if (slot.pending !== undefined) {
      slot.pending.isVoid = true;
      return undefined;
    }
    if (slot.lease === undefined) return undefined;
    this.end(slot, now);
    return recordOf(slot);
  }

  /** Takes a stored record in. What has ended since is found by the first `#advance`, like any other end. */
  restore(record: AddressRecord): void {
    this.seq = Math.max(this.seq, record.seq);
    const address = parseAddress(record.ip);
    const slot = this.table.get(address) ?? this.table.addOutside(address);
    if (record.state === "leased") {
      const { state, ...lease } = record;
      const client = identityOf(lease);
      const older = this.clients.leasedTo(client);
      if (older?.lease !== undefined) this.#displace(older, older.lease, older.lease.expiry, 0);
      if (lease.vmID !== undefined) this.vms.set(lease.vmID, client);
      this.lease(slot, client, lease);
      return;
    }
    // What was put aside before anybody had it stays "never leased".
    if (record.seq > 0 || record.mac !== undefined) {
      const { mac, clientID, expiry, seq } = record;
      const last: LastLease = { ...(mac && { mac }), ...(clientID && { clientID }), expiry, seq };
      this.clients.remember(slot, last);
    }
    if (record.state === "declined") slot.declinedUntil = record.until;
    else slot.coolUntil = record.until;
    this.rest(slot, 0);
  }
  /** What a restart needs, proposed grants included. Safe to read while messages are handled. */
  *records(): Generator<AddressRecord> {
    for (const slot of this.table.slots()) {
      if (slot.last !== undefined || slot.pending !== undefined || slot.declinedUntil > 0)
        yield recordOf(slot);
    }
  }
}

const none: readonly Expired[] = [];

export function recordOf(slot: Slot): AddressRecord {
  const lease = slot.pending?.grant.lease ?? slot.lease;
  if (lease !== undefined) return leasedRecord(lease);
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

/** The lease as it is journalled. */
export function leasedRecord(lease: Lease): AddressRecord {
  return { ...lease, state: "leased" };
}
