import type { LastLease, Slot } from "./address-table.ts";
import { identityOf } from "./request.ts";

/** The addresses of one client. */
interface Client {
  leased: Slot | undefined;
  offered: Slot | undefined;
  /** That of its newest lease, live or ended. */
  last: Slot | undefined;
}

/**
 * Which address a client has, is offered and had last, and which one a client identifier had last. Everything about one
 * client is asked in a row, so the one that was asked about is at hand: in a table that does not fit into the processor's
 * caches, looking up is what an answer costs most.
 */
export class Clients {
  readonly #clients = new Map<string, Client>();
  readonly #lastOfClientID = new Map<string, Slot>();
  #id = "";
  #client: Client | undefined;

  leasedTo(id: string): Slot | undefined {
    return this.#of(id)?.leased;
  }

  offeredTo(id: string): Slot | undefined {
    return this.#of(id)?.offered;
  }

  lastOf(id: string): Slot | undefined {
    return this.#of(id)?.last;
  }

  lastOfClientID(clientID: string | undefined): Slot | undefined {
    return clientID === undefined ? undefined : this.#lastOfClientID.get(clientID);
  }

  setLeased(id: string, slot: Slot | undefined): void {
    this.#set(id, "leased", slot);
  }

  setOffered(id: string, slot: Slot | undefined): void {
    this.#set(id, "offered", slot);
  }

  *leased(): Generator<Slot> {
    for (const { leased } of this.#clients.values()) if (leased !== undefined) yield leased;
  }

  /** Takes the newest lease of an address in; without a MAC nobody has a claim to it. */
  remember(slot: Slot, lease: LastLease): void {
    const { mac, clientID } = lease;
    if (slot.last?.mac !== mac || slot.last?.clientID !== clientID) this.forget(slot);
    slot.last = lease;
    if (mac !== undefined) this.#set(identityOf({ mac }), "last", slot);
    if (clientID !== undefined) this.#lastOfClientID.set(clientID, slot);
  }

  /** Nobody has a claim to the address any more. That it was used stays known. */
  forget(slot: Slot): void {
    if (slot.last === undefined) return;
    const { mac, clientID, expiry, seq } = slot.last;
    const id = mac === undefined ? undefined : identityOf({ mac });
    if (id !== undefined && this.lastOf(id) === slot) this.#set(id, "last", undefined);
    if (clientID !== undefined && this.lastOfClientID(clientID) === slot) {
      this.#lastOfClientID.delete(clientID);
    }
    slot.last = { expiry, seq };
  }

  /** After the pool has changed: forgets the addresses that are gone, and the offers that ended with that. */
  keep(isThere: (slot: Slot) => boolean): void {
    for (const [id, { offered, last }] of this.#clients) {
      if (offered !== undefined && offered.state !== "offered") this.setOffered(id, undefined);
      if (last !== undefined && !isThere(last)) this.#set(id, "last", undefined);
    }
    for (const [who, slot] of this.#lastOfClientID) if (!isThere(slot)) this.#lastOfClientID.delete(who);
  }

  #of(id: string): Client | undefined {
    if (id !== this.#id) {
      this.#client = this.#clients.get(id);
      this.#id = id;
    }
    return this.#client;
  }

  #set(id: string, what: keyof Client, slot: Slot | undefined): void {
    let client = this.#of(id);
    if (client === undefined) {
      if (slot === undefined) return;
      client = { leased: undefined, offered: undefined, last: undefined };
      this.#clients.set(id, client);
      this.#client = client;
    }
    client[what] = slot;
    if (client.leased !== undefined || client.offered !== undefined || client.last !== undefined) return;
    this.#clients.delete(id);
    this.#client = undefined;
  }
}
