import type { Choices } from "../choices.ts";

/**
 * What Google does not say, or what was seen both ways: a client must work with each. `facts` are the collected facts
 * about the API that each comment cites.
 */
export interface GceBehaviour {
  /** HTTP status of a refusal for the rate (facts §1.6 has both). Default 403. */
  readonly throttleStatus: 403 | 429;
  /** Whether it carries a google.rpc.ErrorInfo; not known of every method (facts §6). Default true. */
  readonly errorInfo: boolean;
  /** Whether it says `Retry-After`; nothing says that it does. Default false. */
  readonly retryAfter: boolean;
  /** Whether equal contents have equal fingerprints. Default `counter`: never equal. */
  readonly fingerprints: "content" | "counter";
  /** An interface without aliases shows no list, or an empty one (facts §6). Default `absent`. */
  readonly emptyAliases: "absent" | "shown";
  /** Too many aliases on an interface: the request is refused, or its operation fails (facts §2.3). Default `request`. */
  readonly aliasLimit: "request" | "operation";
  /** What a write gets while another operation works on the same thing: 400 resourceNotReady, or 412 (facts §2.5). Default 400. */
  readonly busyStatus: 400 | 412;
  /** Whether a stopped instance keeps its aliases (facts §2.5). Default true. */
  readonly stoppedKeepsAliases: boolean;
}

/** What there is to choose from, the default first. */
export const behaviourChoices: Choices<GceBehaviour> = {
  throttleStatus: [403, 429],
  errorInfo: [true, false],
  retryAfter: [false, true],
  fingerprints: ["counter", "content"],
  emptyAliases: ["absent", "shown"],
  aliasLimit: ["request", "operation"],
  busyStatus: [400, 412],
  stoppedKeepsAliases: [true, false],
};
