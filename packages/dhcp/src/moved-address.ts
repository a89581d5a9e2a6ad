import { type Address, type Cidr, formatAddress, InvalidError } from "@cocoon-net/core";
import { inside } from "./engine-options.ts";
import { isMac } from "./request.ts";
import type { Reservation } from "./reservation.ts";

/**
 * An address that a guest took along to another node. As long as it is listed nobody but `mac` gets it here; without
 * `mac` it is served elsewhere, and nobody gets it.
 */
export interface MovedAddress {
  readonly address: Address;
  /** Who is served here. Lowercase, with colons. */
  readonly mac?: string;
  /** Where the address is from, when that is not this server's subnet: the guest shall notice no difference. */
  readonly home?: MovedHome;
}

export interface MovedHome {
  readonly subnet: Cidr;
  /** What the guest knows as its router and its DHCP server. */
  readonly gateway: Address;
}

/** @throws {InvalidError} when one of them cannot be served */
export function checkMoved(moved: readonly MovedAddress[], subnet: Cidr): void {
  const macs = new Set<string>();
  for (const { address, mac, home } of moved) {
    const what = `moved address ${formatAddress(address)}`;
    if (home === undefined && !inside(subnet, address)) throw new InvalidError(`${what} says of no subnet`);
    if (home !== undefined && (!inside(home.subnet, address) || !inside(home.subnet, home.gateway))) {
      throw new InvalidError(`${what}, or its gateway, is not in the subnet that it is said to be from`);
    }
    if (mac === undefined) continue;
    if (!isMac(mac)) throw new InvalidError(`${what}: "${mac}" is not a MAC like 52:54:00:ab:cd:ef`);
    if (macs.has(mac)) throw new InvalidError(`${what}: ${mac} has another one too`);
    macs.add(mac);
  }
}

/** The reservations, with those of moved guests in place of what else is said of their MACs and addresses. */
export function withMoved(
  reservations: readonly Reservation[],
  moved: readonly MovedAddress[],
): readonly Reservation[] {
  if (moved.length === 0) return reservations;
  const addresses = new Set(moved.map(({ address }) => address));
  const byMac = new Map(reservations.map((reservation) => [reservation.mac?.toLowerCase(), reservation]));
  const macs = new Set<string>();
  const served = moved.flatMap(({ address, mac }): Reservation[] => {
    if (mac === undefined) return [];
    macs.add(mac);
    return [{ ...byMac.get(mac), mac, address }];
  });
  const others = reservations
    .filter(({ mac }) => mac === undefined || !macs.has(mac.toLowerCase()))
    .map((reservation): Reservation => {
      const { address, ...rest } = reservation;
      return address !== undefined && addresses.has(address) ? rest : reservation;
    });
  return [...served, ...others];
}
