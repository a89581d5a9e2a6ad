import type { LeaseRecord, PoolUse } from "@cocoon-net/core";
import type { Granting, MovedAddress } from "@cocoon-net/dhcp";

/** What a move asks of the leases. */
export interface MovingBook {
  leases(): ReadonlyMap<string, LeaseRecord>;
  /** What is served elsewhere, and which guests of other subnets are served here. */
  setMoved(moved: readonly MovedAddress[]): void;
  /**
   * Takes the lease of a guest in that has moved here: on disk, and its route set, when this resolves (G2). Idempotent.
   * @throws when that cannot be done now
   */
  takeIn(address: string, lease: LeaseRecord): Promise<void>;
  /** Drops lease and route; nobody is told of an end. Idempotent. */
  letGo(address: string): Promise<void>;
}

/** Where this node's leases come from: the built-in DHCP server, or another one's file. */
export interface LeaseBook extends AsyncDisposable {
  /** What becomes of the guests when the subnet is lost, for the log. */
  readonly whenLost: string;
  /** Live leases by address, as they belong into the store. */
  leases(): ReadonlyMap<string, LeaseRecord>;
  use(): PoolUse;
  /**
   * Takes in the leases of this node that the store has and this book knows nothing of, not even that they ended.
   * So a lost local file frees no address (G8), and nothing is granted over them (G9).
   * @returns how many there were
   */
  adopt(stored: ReadonlyMap<string, LeaseRecord>): Promise<number>;
  /** Whether new leases may be made (G7). A followed server cannot be stopped, so its book ignores it. */
  setGranting(granting: Granting): void;
  /** How long leases last from now on. */
  setLeaseTime(leaseMs: number): void;
  /** The subnet belongs to somebody else: its routes leave this host (G3). */
  withdraw(): Promise<void>;
  /** One listener for every change of an address; `undefined` means that its lease ended. */
  onChange(listener: (address: string, lease: LeaseRecord | undefined) => void): void;
}
