import { type Address, type Cidr, formatAddress, formatCidr, InvalidError, lastOf } from "@cocoon-net/core";

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
}

const DAY = 86_400_000;
const MINUTE = 60_000;

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
    coolDownMs: options.coolDownMs ?? MINUTE,
    declineMs: options.declineMs ?? DAY,
    granting: options.granting ?? "open",
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
  return resolved;
}

export function inside(subnet: Cidr, address: Address): boolean {
  return address >= subnet.base && address <= lastOf(subnet);
}
