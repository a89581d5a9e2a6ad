import { type Address, formatAddress, InvalidError } from "@cocoon-net/core";
import { encodeOptions, hexBytes, type OptionSettings } from "./option-settings.ts";
import { isMac } from "./request.ts";

/** What one client gets. It is recognised by its MAC or its client identifier; the MAC's reservation comes first. */
export interface Reservation {
  /** With colons, any case. */
  readonly mac?: string;
  /** Option 61 in hex, colons allowed: `ff:11:22:33:44:00:01:…`. */
  readonly clientID?: string;
  /**
   * Nobody else gets this address. It has to be in the pool; while it is not, or somebody else holds it, the client gets
   * another one.
   */
  readonly address?: Address;
  /** Default: the subnet's. */
  readonly leaseMs?: number;
  /** They win over the subnet's, one by one. */
  readonly options?: OptionSettings;
}

/** Finds the reservation of a client and of an address. */
export class Reservations {
  readonly #byMac = new Map<string, Reservation>();
  readonly #byClientID = new Map<string, Reservation>();
  readonly #byAddress = new Map<Address, Reservation>();

  /** @throws {InvalidError} when one names no client, or two name the same client or address */
  constructor(reservations: readonly Reservation[]) {
    for (const reservation of reservations) {
      const { mac, clientID, address, leaseMs, options } = reservation;
      const what = describeReservation(reservation);
      if (mac === undefined && clientID === undefined) {
        throw new InvalidError(`${what} names neither a MAC nor a client identifier`);
      }
      if (mac !== undefined && !isMac(mac.toLowerCase())) {
        throw new InvalidError(`${what}: "${mac}" is not a MAC like 52:54:00:ab:cd:ef`);
      }
      if (leaseMs !== undefined && !(leaseMs >= 1000 && Number.isFinite(leaseMs))) {
        throw new InvalidError(`${what}: leaseMs is ${leaseMs}; it must be at least 1000`);
      }
      if (options !== undefined) encodeOptions(options, `${what}: options`);
      if (mac !== undefined) add(this.#byMac, mac.toLowerCase(), reservation, "MAC");
      if (clientID !== undefined) {
        const key = Buffer.from(hexBytes(clientID, `${what}: clientID`)).toString("hex");
        add(this.#byClientID, key, reservation, "client identifier");
      }
      if (address !== undefined) add(this.#byAddress, address, reservation, "address");
    }
  }

  of(mac: string, clientID: string | undefined): Reservation | undefined {
    const byMac = this.#byMac.get(mac);
    return byMac ?? (clientID === undefined ? undefined : this.#byClientID.get(clientID));
  }

  at(address: Address): Reservation | undefined {
    return this.#byAddress.get(address);
  }
}

export function describeReservation({ mac, clientID, address }: Reservation): string {
  const who = mac ?? clientID ?? "nobody";
  return `reservation for ${who}${address === undefined ? "" : ` (${formatAddress(address)})`}`;
}

function add<K>(to: Map<K, Reservation>, key: K, reservation: Reservation, what: string): void {
  if (to.has(key))
    throw new InvalidError(`${describeReservation(reservation)}: its ${what} has another one too`);
  to.set(key, reservation);
}
