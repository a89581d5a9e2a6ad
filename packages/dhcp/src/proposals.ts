import { InvalidError, parseAddress } from "@cocoon-net/core";
import type { Slot } from "./address-table.ts";
import { type Bindings, leasedRecord, recordOf } from "./bindings.ts";
import type { Grant } from "./decision.ts";
import type { Granting } from "./engine-options.ts";
import type { AddressRecord, Lease } from "./lease.ts";
import { type DhcpRequest, identityOf } from "./request.ts";

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** The two steps of a grant: proposed, and committed once it is durable or taken back (G2). */
export class Proposals {
  readonly #held: Bindings;

  constructor(held: Bindings) {
    this.#held = held;
  }

  /** Proposes that the client gets the address, or keeps it, and sets it aside for the client. */
  propose(slot: Slot, client: string, message: DhcpRequest, leaseMs: number, now: number): Grant {
    const vmID = this.#held.vms.of(client);
    const renews = slot.lease;
    const hostname = message.hostname ?? renews?.hostname;
    const clientID = message.clientID ?? renews?.clientID;
    // No spreads: they cost as much as all the rest.
    const lease: Writable<Lease> = {
      // The same text for as long as the client is known.
      mac: renews?.mac ?? message.mac,
      ip: slot.ip,
      // Rounded up: never earlier than the client believes, and `leases.json` holds whole seconds.
      expiry: Math.ceil((now + leaseMs) / 1000) * 1000,
      seq: ++this.#held.seq,
    };
    if (hostname !== undefined) lease.hostname = hostname;
    if (clientID !== undefined) lease.clientID = clientID;
    if (vmID !== undefined) lease.vmID = vmID;
    const grant: Writable<Grant> = { kind: "grant", address: slot.address, leaseMs, lease, records: [] };
    if (renews !== undefined) grant.renews = renews;
    const other = this.#held.clients.leasedTo(client);
    const replaces = other === slot ? undefined : other?.lease;
    if (replaces === undefined) grant.records = [leasedRecord(lease)];
    else {
      const { ip, mac, expiry, seq } = replaces;
      const id = replaces.clientID === undefined ? {} : { clientID: replaces.clientID };
      grant.replaces = replaces;
      grant.records = [
        leasedRecord(lease),
        { state: "ended", ip, until: now + this.#held.coolDownMs, mac, ...id, expiry, seq },
      ];
    }
    if (this.#held.clients.offeredTo(client) !== slot) this.#held.dropOffer(client, now);
    // Nothing ends the address while the grant is pending (G2): neither its offer nor the lease it renews.
    const offeredUntil = slot.state === "offered" ? slot.until : 0;
    slot.pending = { slot, grant, offeredUntil, at: now, isVoid: false };
    this.#held.table.move(slot, renews === undefined ? "offered" : "leased");
    slot.holder = client;
    if (renews === undefined) this.#held.clients.setOffered(client, slot);
    return grant;
  }

  /**
   * Makes a proposed grant a lease. False when it is no longer allowed (granting was restricted or the address
   * left the pool meanwhile): then `abort` it. @throws {InvalidError} when it is not a pending grant
   */
  commit(grant: Grant, granting: Granting): boolean {
    const { slot, at, isVoid } = this.#pendingOf(grant);
    if (
      isVoid ||
      !slot.grantable ||
      granting === "refuse" ||
      (granting !== "open" && grant.renews === undefined)
    )
      return false;
    const client = identityOf(grant.lease);
    slot.pending = undefined;
    const other = this.#held.clients.leasedTo(client);
    if (other !== undefined && other !== slot) this.#held.end(other, at);
    this.#held.lease(slot, client, grant.lease);
    this.#held.clients.setOffered(client, undefined);
    return true;
  }

  /**
   * Takes a proposed grant back. @returns records that undo those of the grant, to be journalled when those
   * were. @throws {InvalidError} when it is not a pending grant
   */
  abort(grant: Grant): readonly AddressRecord[] {
    const { slot, at, offeredUntil, isVoid } = this.#pendingOf(grant);
    slot.pending = undefined;
    if (isVoid) this.#held.clients.forget(slot);
    if (grant.renews !== undefined) {
      this.#held.table.move(slot, "leased", isVoid ? at : grant.renews.expiry);
    } else if (offeredUntil > 0 && slot.grantable && !isVoid) {
      this.#held.table.move(slot, "offered", offeredUntil);
    } else {
      this.#held.clients.setOffered(identityOf(grant.lease), undefined);
      this.#held.rest(slot, at);
    }
    const replaced =
      grant.replaces === undefined ? undefined : this.#held.table.get(parseAddress(grant.replaces.ip));
    return replaced === undefined ? [recordOf(slot)] : [recordOf(slot), recordOf(replaced)];
  }

  #pendingOf(grant: Grant): NonNullable<Slot["pending"]> {
    const pending = this.#held.table.get(grant.address)?.pending;
    if (pending?.grant !== grant) {
      throw new InvalidError(`the grant of ${grant.lease.ip} to ${grant.lease.mac} is not pending`);
    }
    return pending;
  }
}
