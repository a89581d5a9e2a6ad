import type { Address } from "@cocoon-net/core";
import type { AddressRecord, Lease } from "./lease.ts";

/** Why a message gets no answer. Stable words: they are metric labels. */
export type SilenceReason =
  | "other-server"
  | "no-address"
  | "unknown-client"
  | "pool-empty"
  | "renew-only"
  | "served-elsewhere"
  | "refusing"
  | "pending"
  | "not-the-lease"
  | "wrong-network"
  | "foreign-subnet"
  | "bad-relay"
  | "port-limit";

/** Why a REQUEST gets a NAK. Stable words: they are metric labels and the NAK's option 56. */
export type NakReason =
  | "wrong-network"
  | "not-in-pool"
  | "leased-to-another"
  | "offered-to-another"
  | "not-available"
  | "reserved"
  | "moved"
  | "refusing";

export interface Silence {
  readonly kind: "silence";
  readonly reason: SilenceReason;
}

export interface Offer {
  readonly kind: "offer";
  readonly address: Address;
  readonly leaseMs: number;
  /** Somebody had the address before, and nothing says that nobody uses it now: worth a probe (RFC 2131 §3.1 step 2). */
  readonly probe: boolean;
}

/**
 * A proposed lease. It is not live before `commit`; until then nobody else can get the address. `abort` undoes
 * it. `records` are to be journalled, in one append, before `commit`.
 */
export interface Grant {
  readonly kind: "grant";
  readonly address: Address;
  readonly leaseMs: number;
  readonly lease: Lease;
  /** The live lease of the same client and address that this one prolongs. It is durable already. */
  readonly renews?: Lease;
  /** The client's lease of another address, which `commit` ends. */
  readonly replaces?: Lease;
  readonly records: readonly AddressRecord[];
}

export interface Nak {
  readonly kind: "nak";
  readonly reason: NakReason;
  readonly address: Address;
}

/** An ACK to INFORM: parameters only, no lease (RFC 2131 §4.3.5). */
export interface InformAck {
  readonly kind: "inform-ack";
  readonly address: Address;
}

/** The lease has ended in the engine; `records` are to be journalled. No answer is sent. */
export interface Release {
  readonly kind: "release";
  readonly lease: Lease;
  readonly records: readonly AddressRecord[];
}

/**
 * The address is aside, or only cooling when the client has put too many aside; `lease` is the one that ended with it, if
 * there was one. No answer is sent.
 */
export interface Decline {
  readonly kind: "decline";
  readonly ip: string;
  readonly lease?: Lease;
  readonly records: readonly AddressRecord[];
}

export type Decision = Silence | Offer | Grant | Nak | InformAck | Release | Decline;
