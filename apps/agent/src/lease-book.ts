import type { LeaseRecord, PoolUse } from "@cocoon-net/core";
import type { Granting } from "@cocoon-net/dhcp";

/** Where this node's leases come from: the built-in DHCP server, or another one's file. */
export interface LeaseBook extends AsyncDisposable {
  /** Live leases by address, as they belong into the store. */
  leases(): ReadonlyMap<string, LeaseRecord>;
  use(): PoolUse;
  /** Whether new leases may be made (G7). A followed server cannot be stopped, so its book ignores it. */
  setGranting(granting: Granting): void;
  /** The subnet belongs to somebody else: its routes leave this host (G3). */
  withdraw(): Promise<void>;
  /** One listener for every change of an address; `undefined` means that its lease ended. */
  onChange(listener: (address: string, lease: LeaseRecord | undefined) => void): void;
}
