import type { Choices } from "../choices.ts";

/**
 * What the vendor does not say, or what was seen both ways: a client must work with each. `facts` are the collected
 * facts about the API that each comment cites.
 */
export interface VolcengineBehaviour {
  /** HTTP status of a refusal for the rate: 429; 200 and 400 were seen too (facts §2.13). Default 429. */
  readonly throttleStatus: 200 | 400 | 429;
  /** Whether it says `Retry-After`: a vendor's client reads it (facts §1.6), nothing says that it is sent. Default false. */
  readonly retryAfter: boolean;
  /** Errors of the gateway in the usual envelope, or `{HTTPCode, errorcode, message}` (facts §1.5). Default `envelope`. */
  readonly gatewayErrors: "envelope" | "flat";
  /**
   * Unassigning several addresses of which one is not there (facts §2.7): all of it fails, the others go and it fails,
   * or it counts as done. Default `refuse`.
   */
  readonly unassignMissing: "refuse" | "partial" | "ignore";
  /** Secondary addresses that are asked for with an ENI's creation (facts §2.1): given, not given, or refused. Default `given`. */
  readonly creationAddresses: "given" | "ignored" | "refused";
  /** Whether a subnet's total counts the addresses that nobody can have (facts §2.8). Default false. */
  readonly totalCountsReserved: boolean;
  /** What the answer of an Assign lists: the new addresses, or all secondary ones, new ones last (facts §2.7). Default `added`. */
  readonly assignAnswer: "added" | "all";
  /** Describing ENIs by ids of which one does not exist: left out, or NotFound (facts §2.4). Default `omit`. */
  readonly unknownIDs: "omit" | "refuse";
  /** Whether the limit of addresses per ENI counts the primary one (facts §2.10). Default true. */
  readonly limitCountsPrimary: boolean;
  /**
   * What a VPC that is Pending refuses (facts §2.8, §2.13): making subnets, ENIs and addresses, or everything that
   * changes something in it. Default `creations`.
   */
  readonly pendingVpc: "creations" | "writes";
  /** Spelling of the metadata items: the published one, the undocumented one, or both (facts §4.1). Default `both`. */
  readonly metadataItems: "underscores" | "hyphens" | "both";
  /** Metadata tokens (facts §4.2). Default `optional`. */
  readonly metadataTokens: "optional" | "required" | "none";
  /** What stands between the bytes of a MAC in metadata (facts §4.1). Default `:`. */
  readonly macSeparator: ":" | "-";
  /** Whether the metadata lists NICs of others too, RDMA and cross-account ones (facts §4.1). Default false. */
  readonly foreignNics: boolean;
}

/** What there is to choose from, the default first. */
export const behaviourChoices: Choices<VolcengineBehaviour> = {
  throttleStatus: [429, 400, 200],
  retryAfter: [false, true],
  gatewayErrors: ["envelope", "flat"],
  unassignMissing: ["refuse", "partial", "ignore"],
  creationAddresses: ["given", "ignored", "refused"],
  totalCountsReserved: [false, true],
  assignAnswer: ["added", "all"],
  unknownIDs: ["omit", "refuse"],
  limitCountsPrimary: [true, false],
  pendingVpc: ["creations", "writes"],
  metadataItems: ["both", "underscores", "hyphens"],
  metadataTokens: ["optional", "required", "none"],
  macSeparator: [":", "-"],
  foreignNics: [false, true],
};
