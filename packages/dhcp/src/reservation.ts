import { type Address, formatAddress, InvalidError, parseAddress } from "@cocoon-net/core";
import { encodeOptions, hexBytes, type OptionSettings, parseOptionSettings } from "./option-settings.ts";
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

const settings = ["mac", "clientID", "address", "leaseMs", "options"];

/**
 * Reads reservations of any origin, a parsed file for example: as `Reservation`, with the address as a dotted quad.
 * @param where what messages begin with: `reservations of node.yaml`
 * @throws {InvalidError} naming the reservation and what is wrong with it
 */
export function parseReservations(value: unknown, where: string): Reservation[] {
  if (!Array.isArray(value))
    throw new InvalidError(`${where} is ${JSON.stringify(value)}; it must be a list`);
  const reservations = value.map((entry: unknown, index): Reservation => {
    const what = `${where}: entry ${index + 1}`;
    if (typeof entry !== "object" || entry === null) throw new InvalidError(`${what} is not a mapping`);
    const { mac, clientID, address, leaseMs, options, ...more }: Record<string, unknown> = { ...entry };
    const [unknown] = Object.keys(more);
    if (unknown !== undefined) {
      throw new InvalidError(`${what} has no setting "${unknown}"`, {
        hint: `it takes ${settings.join(", ")}`,
      });
    }
    for (const [name, text] of Object.entries({ mac, clientID, address })) {
      if (text !== undefined && typeof text !== "string") {
        throw new InvalidError(`${what}: ${name} is ${JSON.stringify(text)}; it must be a text`);
      }
    }
    if (leaseMs !== undefined && typeof leaseMs !== "number") {
      throw new InvalidError(`${what}: leaseMs is ${JSON.stringify(leaseMs)}; it must be a number`);
    }
    return {
      ...(typeof mac === "string" && { mac }),
      ...(typeof clientID === "string" && { clientID }),
      ...(typeof address === "string" && { address: parseAddress(address, `${what}: address`) }),
      ...(leaseMs !== undefined && { leaseMs }),
      ...(options !== undefined && { options: parseOptionSettings(options, `${what}: options`) }),
    };
  });
  new Reservations(reservations);
  return reservations;
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
