/** What one run has seen, as it was said by whom. Times are milliseconds of the one host's clock, which does not step. */
export type HistoryEntry =
  /** The store: `subnets/{node}` was written or deleted at that revision. */
  | {
      readonly kind: "owner";
      readonly at: number;
      readonly revision: number;
      readonly node: string;
      /** Undefined: it owns nothing any more. */
      readonly subnet?: string | undefined;
    }
  /** The store: the block was put into quarantine, thus taken from the node. */
  | { readonly kind: "taken"; readonly at: number; readonly node: string; readonly subnet: string }
  /** The store at rest: what it says of an address. */
  | {
      readonly kind: "mirror";
      readonly at: number;
      readonly node: string;
      readonly mac: string;
      readonly ip: string;
    }
  /** The cloud: the instance was started or stopped. */
  | { readonly kind: "instance"; readonly at: number; readonly node: string; readonly running: boolean }
  /** A guest: its client was given the address, or was given it for longer, until then. */
  | {
      readonly kind: "lease";
      readonly at: number;
      readonly node: string;
      readonly guest: string;
      readonly mac: string;
      readonly ip: string;
      readonly until: number;
      readonly renewal: boolean;
    }
  /** A guest: it holds nothing any more. */
  | {
      readonly kind: "lease-end";
      readonly at: number;
      readonly guest: string;
      readonly reason: "refused" | "deconfigured" | "gone";
    }
  /** An agent that has run undisturbed for a while: what its `leases.json` says. */
  | {
      readonly kind: "leases-file";
      readonly at: number;
      readonly node: string;
      readonly leases: readonly { readonly mac: string; readonly ip: string }[];
    }
  /** What was done to the cluster; and what its parts did that was not asked for. */
  | {
      readonly kind: "fault";
      readonly at: number;
      readonly what: string;
      readonly on: string;
      readonly over: boolean;
    }
  /** Everything was healed and has come to rest. */
  | { readonly kind: "rest"; readonly at: number };

export function toLines(history: readonly HistoryEntry[]): string {
  return history.map((entry) => `${JSON.stringify(entry)}\n`).join("");
}

export function fromLines(text: string): HistoryEntry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as HistoryEntry);
}
