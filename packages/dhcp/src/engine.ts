import { type Address, type Cidr, InvalidError } from "@cocoon-net/core";
import type { Decision, Grant } from "./decision.ts";
import type { AddressRecord, EngineState, Lease } from "./lease.ts";
import type { DhcpRequest } from "./request.ts";

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
  /** Option 6. */
  readonly dns?: readonly Address[];
  /** Addresses of the pool that must not be granted. */
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

export interface PoolCounts {
  readonly free: number;
  readonly offered: number;
  readonly leased: number;
  readonly cooling: number;
  readonly declined: number;
  readonly reserved: number;
  /** The sum of the above, always (G10). */
  readonly pool: number;
  /** Live leases of addresses that left the pool: kept until they end, never renewed, never given to others. */
  readonly outside: number;
}

/** A lease that reached its expiry; `record` is to be journalled. */
export interface Expired {
  readonly lease: Lease;
  readonly record: AddressRecord;
}

export class LeaseEngine {
  constructor(_options: EngineOptions, _initial?: EngineState) {}
  get options(): Required<EngineOptions> {
    throw new InvalidError("not built yet");
  }
  configure(_change: Partial<EngineOptions>): void {}
  handle(_message: DhcpRequest, _now: number): Decision {
    throw new InvalidError("not built yet");
  }
  commit(_decision: Grant): boolean {
    return false;
  }
  abort(_decision: Grant): readonly AddressRecord[] {
    return [];
  }
  expire(_now: number): readonly Expired[] {
    return [];
  }
  nextExpiry(): number | undefined {
    return undefined;
  }
  counts(): PoolCounts {
    throw new InvalidError("not built yet");
  }
  leases(): Iterable<Lease> {
    return [];
  }
  leaseOf(_ip: string): Lease | undefined {
    return undefined;
  }
  get seq(): number {
    return 0;
  }
  records(): Iterable<AddressRecord> {
    return [];
  }
}
