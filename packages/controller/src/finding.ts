import type { Compare, NodeStatus } from "@cocoon-net/core";

/** What is wrong; each code has one meaning, see `describeFinding`. */
export type FindingCode =
  | "record-unreadable"
  | "subnets-overlap"
  | "slot-missing"
  | "slot-of-another"
  | "slot-without-owner"
  | "slot-without-quarantine"
  | "owner-without-record"
  | "fencing-without-intent"
  | "quarantine-without-intent"
  | "quarantine-overdue"
  | "intent-old"
  | "lease-outside-subnets"
  | "lease-of-another"
  | "moved-to-nobody"
  | "lease-not-delivered"
  | "resource-leaked"
  | "address-held-by-another"
  | "address-without-owner";

/** What mends a finding. `if` is what it was decided upon: where that has changed, nothing is done. */
export type RepairAction =
  | { readonly do: "delete-key"; readonly key: string; readonly if: readonly Compare[] }
  | {
      readonly do: "put-slot";
      readonly cidr: string;
      readonly node: string;
      readonly uid: string;
      readonly if: readonly Compare[];
    }
  | {
      readonly do: "set-status";
      readonly node: string;
      readonly status: NodeStatus;
      readonly if: readonly Compare[];
    }
  /** Puts a block to rest as after a forced reclaim; then it is free. */
  | {
      readonly do: "rest-block";
      readonly cidr: string;
      readonly node: string;
      readonly uid: string;
      readonly if: readonly Compare[];
    }
  | {
      readonly do: "release-resource";
      readonly platform: string;
      readonly id: string;
      readonly node: string;
      readonly instanceID?: string;
      readonly subnet: string;
    };

/** One thing that contradicts what the cluster promises. The shape is stable; codes may be added. */
export interface Finding {
  readonly code: FindingCode;
  /** The guarantee that it breaks, e.g. `G1` (docs/design.md). */
  readonly guarantee: string;
  /** The key or resource that it is about; with the code, what tells it from another. */
  readonly subject: string;
  readonly node?: string;
  readonly subnet?: string;
  readonly ip?: string;
  /** What was found. */
  readonly message: string;
  /** What follows from it. */
  readonly meaning: string;
  /** What would mend it. */
  readonly mending: string;
  /** Set where `repair` can. */
  readonly repair?: RepairAction;
}

interface Kind {
  readonly guarantee: string;
  readonly meaning: string;
  readonly mending: string;
}

const kinds: Readonly<Record<FindingCode, Kind>> = {
  "record-unreadable": {
    guarantee: "G8",
    meaning: "what it describes is left alone by every controller",
    mending: "put the record right by hand; `cocoon-net store check` says what is wrong with it",
  },
  "subnets-overlap": {
    guarantee: "G1",
    meaning: "two nodes may grant the same address",
    mending: "drain one of the two nodes now",
  },
  "slot-missing": {
    guarantee: "G1",
    meaning: "the next node may be given a block that has an owner",
    mending: "write the slot for its owner",
  },
  "slot-of-another": {
    guarantee: "G1",
    meaning: "two nodes believe that the block is theirs",
    mending: "find out which of the two is right, and drain the other",
  },
  "slot-without-owner": {
    guarantee: "G1",
    meaning: "the block is nobody's and cannot be given out",
    mending: "delete the slot",
  },
  "slot-without-quarantine": {
    guarantee: "G6",
    meaning: "the block is held for a quarantine that nobody ends",
    mending: "put the block to rest once more; then it is free",
  },
  "owner-without-record": {
    guarantee: "G12",
    meaning: "nobody can tell which instance owns the block, so that it is never reclaimed",
    mending: "restart the node's agent; if there is no such node, delete its claim and slots",
  },
  "fencing-without-intent": {
    guarantee: "G11",
    meaning: "the node's reclaim has been lost, and nobody takes it up",
    mending: "call the node suspect again; what is still true of it begins a new reclaim",
  },
  "quarantine-without-intent": {
    guarantee: "G11",
    meaning: "nobody ends this quarantine",
    mending: "put the block to rest once more; then it is free",
  },
  "quarantine-overdue": {
    guarantee: "G6",
    meaning: "the block stays closed longer than it has to",
    mending: "see what the job waits for; the cloud may not let go of something",
  },
  "intent-old": {
    guarantee: "G11",
    meaning: "a job of the controller makes no headway",
    mending: "see what it waits for",
  },
  "lease-outside-subnets": {
    guarantee: "G2",
    meaning: "a lease that no node answers for hides what the address is used for",
    mending: "delete the lease",
  },
  "lease-of-another": {
    guarantee: "G2",
    meaning: "the owner of the subnet may grant the address to somebody else",
    mending: "restart the agent of the owner: it compares its leases with the store",
  },
  "moved-to-nobody": {
    guarantee: "G12",
    meaning: "the address was moved to a node that is gone, and cannot go home while it has a lease",
    mending: "delete the lease; the controller then sends the address home",
  },
  "lease-not-delivered": {
    guarantee: "G2",
    meaning: "the VPC does not deliver the address to its guest",
    mending: "run `cocoon-net init` on the node again: it asks for what is missing",
  },
  "resource-leaked": {
    guarantee: "G11",
    meaning: "it is paid for, counts against the quota, and holds addresses that nobody uses",
    mending: "release it at the cloud",
  },
  "address-held-by-another": {
    guarantee: "G5",
    meaning: "the VPC delivers the address to an instance that does not own it",
    mending: "detach it from that instance, or reclaim the node that runs there",
  },
  "address-without-owner": {
    guarantee: "G5",
    meaning: "the block is free in the store, but the VPC still delivers it to an instance",
    mending: "detach it from that instance before a node gets the block",
  },
};

export function findingOf(
  code: FindingCode,
  about: Pick<Finding, "subject" | "message"> &
    Partial<Pick<Finding, "node" | "subnet" | "ip">> & { readonly repair?: RepairAction | undefined },
): Finding {
  const { guarantee, meaning, mending } = kinds[code];
  const { subject, node, subnet, ip, message, repair } = about;
  return {
    code,
    guarantee,
    subject,
    ...(node === undefined ? {} : { node }),
    ...(subnet === undefined ? {} : { subnet }),
    ...(ip === undefined ? {} : { ip }),
    message,
    meaning,
    mending,
    ...(repair === undefined ? {} : { repair }),
  };
}

/** Whether two looks have found the same, so that what mends the one mends the other (G8). */
export function isSameFinding(a: Finding, b: Finding): boolean {
  return identity(a) === identity(b) && JSON.stringify(a.repair) === JSON.stringify(b.repair);
}

export function identity({ code, subject }: Finding): string {
  return `${code} ${subject}`;
}
