import type { Slot } from "./address-table.ts";
import { identityOf } from "./request.ts";
import type { Reservation } from "./reservation.ts";

/** What is reserved for a client. */
export interface Own {
  readonly reservation: Reservation;
  /** The reserved address, while the client may have it. */
  readonly open: Slot | undefined;
}

/** Whether a client may go on with the address that it has: nobody else's, and its own one is not to be had. */
export function mayKeep(slot: Slot, own: Own | undefined): boolean {
  if (!slot.grantable) return false;
  if (slot.reservation !== undefined) return slot.reservation === own?.reservation;
  return own?.open === undefined;
}

/** Whether the client may take the address although it has neither lease nor offer of it. */
export function isOpenTo(slot: Slot, client: string, clientID: string | undefined): boolean {
  if (!slot.grantable || slot.reservation !== undefined) return false;
  if (slot.state === "free") return true;
  if (slot.state !== "cooling" || slot.last === undefined) return false;
  if (slot.last.mac !== undefined && identityOf({ mac: slot.last.mac }) === client) return true;
  return clientID !== undefined && slot.last.clientID === clientID;
}
