import type { LastLease, Slot } from "./address-table.ts";
import { identityOf } from "./request.ts";

/** Which address a client, or a client identifier, had last: of its newest lease, live or ended. */
export class ClientMemory {
  readonly #byClient = new Map<string, Slot>();
  readonly #byClientID = new Map<string, Slot>();

  of(client: string): Slot | undefined {
    return this.#byClient.get(client);
  }

  ofClientID(clientID: string | undefined): Slot | undefined {
    return clientID === undefined ? undefined : this.#byClientID.get(clientID);
  }

  /** Takes the newest lease of an address in; without a MAC nobody has a claim to it. */
  remember(slot: Slot, lease: LastLease): void {
    this.forget(slot);
    slot.last = lease;
    if (lease.mac !== undefined) this.#byClient.set(identityOf({ mac: lease.mac }), slot);
    if (lease.clientID !== undefined) this.#byClientID.set(lease.clientID, slot);
  }

  /** Nobody has a claim to the address any more. That it was used stays known. */
  forget(slot: Slot): void {
    if (slot.last === undefined) return;
    const { mac, clientID, expiry, seq } = slot.last;
    const client = mac === undefined ? undefined : identityOf({ mac });
    if (client !== undefined && this.#byClient.get(client) === slot) this.#byClient.delete(client);
    if (clientID !== undefined && this.#byClientID.get(clientID) === slot) this.#byClientID.delete(clientID);
    slot.last = { expiry, seq };
  }

  /** Forgets the addresses that are gone. */
  keep(isThere: (slot: Slot) => boolean): void {
    for (const known of [this.#byClient, this.#byClientID]) {
      for (const [who, slot] of known) if (!isThere(slot)) known.delete(who);
    }
  }
}
