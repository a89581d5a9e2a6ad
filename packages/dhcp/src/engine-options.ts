import { type Address, type Cidr, formatAddress, formatCidr, InvalidError, lastOf } from "@cocoon-net/core";
import { checkMoved, type MovedAddress } from "./moved-address.ts";
import { encodeOptions, type OptionSettings } from "./option-settings.ts";
import { describeReservation, type Reservation, Reservations } from "./reservation.ts";

/**
 * `open`: everything. `renew-only`: live leases are renewed, nothing new is granted (G7). `refuse`: the subnet
 * is lost (G3): every REQUEST gets a NAK, DISCOVER gets silence.
 */
export type Granting = "open" | "renew-only" | "refuse";

export interface EngineOptions {
  readonly subnet: Cidr;
  /** The node's address on the bridge: router (3), server identifier (54) and siaddr. */
  readonly gateway: Address;
  /** The grantable addresses. The subnet's own address, its broadcast address and the gateway are never granted. */
  readonly pool: readonly Address[];
  /** Option 6. Default none. */
  readonly dns?: readonly Address[];
  /** Addresses of the pool that must not be granted. Default none. */
  readonly reserved?: readonly Address[];
  /** Default 24 h. */
  readonly leaseMs?: number;
  /** How long an offer holds its address. Default 60 s. */
  readonly offerMs?: number;
  /** How long an address rests before another client may have it. Default 60 s. */
  readonly coolDownMs?: number;
  /** How long a declined address stays aside. Default 24 h. */
  readonly declineMs?: number;
  /** Default `open`. */
  readonly granting?: Granting;
  /** What guests are told besides. Default nothing. */
  readonly options?: OptionSettings;
  /** Default none. */
  readonly reservations?: readonly Reservation[];
  /** Addresses that are served outside their subnet. Default none. */
  readonly moved?: readonly MovedAddress[];
  /**
   * How a client gets an address that it never had: `hash` of its MAC points to one, so that it is the same one again even
   * when all records are lost; `sequential`: the first of the pool. Default `hash`.
   */
  readonly placement?: "hash" | "sequential";
  /** Answers DISCOVERs with option 80 by a lease at once (RFC 4039). Default false. */
  readonly rapidCommit?: boolean;
  /** Offers and leases that one bridge port may hold; clients whose port is not known are not limited. Default 16. */
  readonly leasesPerPort?: number;
  /** Addresses that one client, or one bridge port, can have put aside by DECLINE at a time. Default 4. */
  readonly declinesPerClient?: number;
}

const DAY = 86_400_000;
const MINUTE = 60_000;

/** What counts for settings that nobody made, for whoever takes some back. */
export const engineDefaults: Required<
  Pick<
    EngineOptions,
    "coolDownMs" | "declineMs" | "options" | "reservations" | "rapidCommit" | "leasesPerPort"
  >
> = {
  coolDownMs: MINUTE,
  declineMs: DAY,
  options: {},
  reservations: [],
  rapidCommit: false,
  leasesPerPort: 16,
};

/** Fills the defaults in. @throws {InvalidError} for an address outside the subnet or a duration that is none. */
export function resolveEngineOptions(options: EngineOptions): Required<EngineOptions> {
  const resolved: Required<EngineOptions> = {
    subnet: options.subnet,
    gateway: options.gateway,
    pool: options.pool,
    dns: options.dns ?? [],
    reserved: options.reserved ?? [],
    leaseMs: options.leaseMs ?? DAY,
    offerMs: options.offerMs ?? MINUTE,
    coolDownMs: options.coolDownMs ?? engineDefaults.coolDownMs,
    declineMs: options.declineMs ?? engineDefaults.declineMs,
    options: options.options ?? engineDefaults.options,
    reservations: options.reservations ?? engineDefaults.reservations,
    rapidCommit: options.rapidCommit ?? engineDefaults.rapidCommit,
    leasesPerPort: options.leasesPerPort ?? engineDefaults.leasesPerPort,
    granting: options.granting ?? "open",
    moved: options.moved ?? [],
    placement: options.placement ?? "hash",
    declinesPerClient: options.declinesPerClient ?? 4,
  };
  const { subnet, gateway, pool } = resolved;
  if (!inside(subnet, gateway)) {
    throw new InvalidError(`gateway ${formatAddress(gateway)} is not in subnet ${formatCidr(subnet)}`);
  }
  const foreign = pool.find((address) => !inside(subnet, address));
  if (foreign !== undefined) {
    throw new InvalidError(`pool address ${formatAddress(foreign)} is not in subnet ${formatCidr(subnet)}`);
  }
  for (const name of ["leaseMs", "offerMs", "coolDownMs", "declineMs"] as const) {
    const least = name === "coolDownMs" || name === "declineMs" ? 0 : 1000;
    if (!(resolved[name] >= least && Number.isFinite(resolved[name]))) {
      throw new InvalidError(`${name} is ${resolved[name]}; it must be at least ${least}`);
    }
  }
  for (const name of ["leasesPerPort", "declinesPerClient"] as const) {
    if (!(resolved[name] >= 1)) throw new InvalidError(`${name} is ${resolved[name]}; it must be at least 1`);
  }
  encodeOptions(resolved.options, `options of subnet ${formatCidr(subnet)}`);
  new Reservations(resolved.reservations);
  checkMoved(resolved.moved, subnet);
  for (const reservation of resolved.reservations) {
    if (reservation.address !== undefined && !inside(subnet, reservation.address)) {
      throw new InvalidError(`${describeReservation(reservation)} is not in subnet ${formatCidr(subnet)}`);
    }
  }
  return resolved;
}

/** Whether a host other than the server may have the address. */
export function isHostOf(
  { subnet, gateway }: Pick<EngineOptions, "subnet" | "gateway">,
  address: Address,
): boolean {
  if (!inside(subnet, address) || address === gateway) return false;
  return subnet.prefix >= 31 || (address !== subnet.base && address !== lastOf(subnet));
}

export function inside(subnet: Cidr, address: Address): boolean {
  return address >= subnet.base && address <= lastOf(subnet);
}
