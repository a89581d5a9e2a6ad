import type { NodeStatus } from "@cocoon-net/core";

/**
 * When the store's news came, and a moment at which they were not true yet: in between they became true. Left out, that
 * is the same.
 */
export interface StoreNews {
  readonly at: number;
  readonly notBefore?: number | undefined;
  readonly revision: number;
}

/** What one run has seen, as it was said by whom. Times are milliseconds of the one host's clock, which does not step. */
export type HistoryEntry =
  /** The store: `subnets/{node}` was written or deleted at that revision. */
  | (StoreNews & {
      readonly kind: "owner";
      readonly node: string;
      /** Undefined: it owns nothing any more. */
      readonly subnet?: string | undefined;
    })
  /** The store: the block was put into quarantine, thus taken from the node. */
  | (StoreNews & { readonly kind: "taken"; readonly node: string; readonly subnet: string })
  /** The store: the slot is nobody's any more. */
  | (StoreNews & { readonly kind: "freed"; readonly subnet: string })
  /** The store: a node is of another status than before. */
  | (StoreNews & { readonly kind: "status"; readonly node: string; readonly status: NodeStatus })
  /** The store: an operator has paused what frees, or let it go on. */
  | (StoreNews & { readonly kind: "pause"; readonly paused: boolean })
  /** The store: whose guest has the address, by `pool/{ip}`. */
  | (StoreNews & {
      readonly kind: "holder";
      readonly ip: string;
      /** Undefined: nobody. */
      readonly held?: { readonly node: string; readonly mac: string } | undefined;
    })
  /** The store: who serves an address that was moved, or is on the way, by `moved/{ip}`. */
  | (StoreNews & {
      readonly kind: "moved";
      readonly ip: string;
      /** Undefined: it is one like any other. */
      readonly served?:
        | {
            readonly node: string;
            readonly mac: string;
            /** False: the node has it, and has not said yet that it serves it. */
            readonly settled: boolean;
          }
        | undefined;
    })
  /** The store at rest: what it says of an address. */
  | {
      readonly kind: "mirror";
      readonly at: number;
      readonly node: string;
      readonly mac: string;
      readonly ip: string;
    }
  /** The cloud at rest: it delivers an address to that node. */
  | { readonly kind: "delivered"; readonly at: number; readonly node: string; readonly ip: string }
  /** The cloud: the instance was started or stopped. */
  | { readonly kind: "instance"; readonly at: number; readonly node: string; readonly running: boolean }
  /** The guest is on that node from then on. */
  | { readonly kind: "placed"; readonly at: number; readonly guest: string; readonly node: string }
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
      /** It may hear nothing from the store. */
      readonly cutOff: boolean;
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

/** Where a run leaves it, in its directory. */
export const historyFile = "history.jsonl";
/** What the store held when the cluster did not come to rest: revision, key and value. */
export const storeFile = "store.txt";

export function toLines(history: readonly HistoryEntry[]): string {
  return history.map((entry) => `${JSON.stringify(entry)}\n`).join("");
}

export function fromLines(text: string): HistoryEntry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as HistoryEntry);
}

export type EntryOf<K extends HistoryEntry["kind"]> = Extract<HistoryEntry, { kind: K }>;

export function entriesOf<K extends HistoryEntry["kind"]>(
  history: readonly HistoryEntry[],
  kind: K,
): EntryOf<K>[] {
  return history.filter((entry): entry is EntryOf<K> => entry.kind === kind);
}
