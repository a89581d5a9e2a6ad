/** A lease: one address bound to one MAC until `expiry`. A plain value; a renewal makes a new one. */
export interface Lease {
  /** Lowercase, with colons: `52:54:00:ab:cd:ef`. */
  readonly mac: string;
  /** Dotted quad. */
  readonly ip: string;
  /** Milliseconds since the epoch, a whole second. */
  readonly expiry: number;
  /** The node's number of this grant; grows with every grant and renewal. A release names it (G4). */
  readonly seq: number;
  /** Option 12, when the client sent a printable one. */
  readonly hostname?: string;
  /** Option 61 in lowercase hex: the second key of a client, see `identityOf`. */
  readonly clientID?: string;
  /** The VM that the MAC belongs to, when the VM engine has said so. */
  readonly vmID?: string;
}

/**
 * All that must survive a restart about one address. The journal is a sequence of these; the last one about
 * an address wins. `expiry` and `seq` are those of the newest lease of the address (0 when there was none), so
 * that an old `leases.json` can be told from a newer one.
 */
export type AddressRecord =
  | ({ readonly state: "leased" } & Lease)
  | {
      /** `ended`: cooling until `until`, free afterwards. `declined`: put aside until `until`. */
      readonly state: "ended" | "declined";
      readonly ip: string;
      /** Milliseconds since the epoch. */
      readonly until: number;
      /** Who had the newest lease; absent when nobody may inherit it (its VM is gone). */
      readonly mac?: string;
      readonly clientID?: string;
      readonly expiry: number;
      readonly seq: number;
    };

/** What `loadLeases` found and a `LeaseEngine` starts from. */
export interface EngineState {
  /** The highest grant number ever used. */
  readonly seq: number;
  readonly records: readonly AddressRecord[];
}

export const emptyState: EngineState = { seq: 0, records: [] };
