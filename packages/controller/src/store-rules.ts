import {
  type Cidr,
  type Compare,
  contains,
  formatCidr,
  overlaps,
  parseAddress,
  parseCidr,
  slotsOf,
} from "@cocoon-net/core";
import type { CheckFacts, Known } from "./check-facts.ts";
import { type Finding, findingOf } from "./finding.ts";

export interface StoreRuleOptions {
  /** From when on a job that is not done counts as old. */
  readonly intentMaxMs: number;
  /** How long past its end a quarantine may be. */
  readonly overdueMs: number;
}

/** What the records of the store say of each other. Pure. */
export function checkStore(facts: CheckFacts, options: StoreRuleOptions): Finding[] {
  return [
    ...facts.unreadable.map(({ key, reason }) =>
      findingOf("record-unreadable", { subject: key, message: `${key} cannot be read: ${reason}` }),
    ),
    ...checkSubnets(facts),
    ...checkSlots(facts),
    ...checkJobs(facts, options),
    ...checkLeases(facts),
  ];
}

function* checkSubnets({ subnets, slots, nodes, config }: CheckFacts): Generator<Finding> {
  const owned = [...subnets].map(([node, known]) => ({ node, known, block: parseCidr(known.value) }));
  owned.sort((a, b) => a.block.base - b.block.base || a.block.prefix - b.block.prefix);
  for (const [index, one] of owned.entries()) {
    const { node, known, block } = one;
    const subnet = known.value;
    const next = owned[index + 1];
    if (next && overlaps(block, next.block)) {
      yield findingOf("subnets-overlap", {
        subject: next.known.entry.key,
        node,
        subnet,
        message: `${node} owns ${subnet}, and ${next.node} owns ${next.known.value}`,
      });
    }
    const record = nodes.get(node);
    if (!record) {
      yield findingOf("owner-without-record", {
        subject: known.entry.key,
        node,
        subnet,
        message: `${node} owns ${subnet}, and has no record`,
      });
    }
    for (const slot of slotsOf(block, config.nodePrefix).map(formatCidr)) {
      const held = slots.get(slot);
      if (!held) {
        yield findingOf("slot-missing", {
          subject: `slots/${slot}`,
          node,
          subnet,
          message: `${node} owns ${subnet}, and slot ${slot} is on no record`,
          repair: record && {
            do: "put-slot",
            cidr: slot,
            node,
            uid: record.value.uid,
            if: [same(known), { key: `slots/${slot}`, exists: false }],
          },
        });
      } else if (held.value.node !== node) {
        yield findingOf("slot-of-another", {
          subject: held.entry.key,
          node,
          subnet,
          message: `${node} owns ${subnet}, and slot ${slot} says ${held.value.node || "that it is in quarantine"}`,
        });
      }
    }
  }
}

function* checkSlots({ slots, subnets, quarantine, config }: CheckFacts): Generator<Finding> {
  const resting = new Set<string>();
  for (const cidr of quarantine.keys()) {
    for (const slot of slotsOf(parseCidr(cidr), config.nodePrefix)) resting.add(formatCidr(slot));
  }
  for (const [cidr, held] of slots) {
    const { node, uid } = held.value;
    if (node === "") {
      if (resting.has(cidr)) continue;
      yield findingOf("slot-without-quarantine", {
        subject: held.entry.key,
        subnet: cidr,
        message: `slot ${cidr} is held for a quarantine that is on no record`,
        repair: {
          do: "rest-block",
          cidr,
          node: "",
          uid,
          if: [same(held), { key: `quarantine/${cidr}`, exists: false }],
        },
      });
      continue;
    }
    const claim = subnets.get(node);
    if (claim && overlaps(parseCidr(claim.value), parseCidr(cidr))) continue;
    const unclaimed: Compare = claim ? same(claim) : { key: `subnets/${node}`, exists: false };
    yield findingOf("slot-without-owner", {
      subject: held.entry.key,
      node,
      subnet: cidr,
      message: `slot ${cidr} says ${node}, which owns ${claim ? claim.value : "no subnet"}`,
      repair: { do: "delete-key", key: held.entry.key, if: [same(held), unclaimed] },
    });
  }
}

function* checkJobs(facts: CheckFacts, options: StoreRuleOptions): Generator<Finding> {
  const { now, nodes, quarantine, intents, subnets } = facts;
  const jobs = [...intents.values()].filter(({ value }) => value.kind === "reclaim");
  const blocks = new Set(jobs.map(({ value }) => value.subnet));
  for (const [cidr, known] of quarantine) {
    const { node, uid, until, intent } = known.value;
    const job = intent === undefined ? undefined : intents.get(intent);
    if (!job) {
      yield findingOf("quarantine-without-intent", {
        subject: known.entry.key,
        node,
        subnet: cidr,
        message: `${cidr} of ${node} is in quarantine, and no job is to end that`,
        repair: { do: "rest-block", cidr, node, uid, if: [same(known)] },
      });
    } else if (now - Date.parse(until) > options.overdueMs) {
      yield findingOf("quarantine-overdue", {
        subject: known.entry.key,
        node,
        subnet: cidr,
        message: `the quarantine of ${cidr} was over at ${until}; ${job.value.step}: ${job.value.lastError ?? "no failure is on record"}`,
      });
    }
  }
  for (const [node, known] of nodes) {
    const { status, subnet } = known.value;
    const claim = subnets.get(node);
    if (status !== "fencing" || !claim || blocks.has(subnet)) continue;
    yield findingOf("fencing-without-intent", {
      subject: known.entry.key,
      node,
      subnet,
      message: `${node} is being fenced, and no job does it`,
      repair: { do: "set-status", node, status: "suspect", if: [same(known), same(claim)] },
    });
  }
  for (const [id, known] of intents) {
    const { kind, step, startedAt, lastError, node, subnet } = known.value;
    // A quarantine has its own rule.
    if (startedAt === undefined || (kind === "reclaim" && step === "waiting")) continue;
    if (now - Date.parse(startedAt) <= options.intentMaxMs) continue;
    yield findingOf("intent-old", {
      subject: known.entry.key,
      ...(node === undefined ? {} : { node }),
      ...(subnet === undefined ? {} : { subnet }),
      message: `${id} began at ${startedAt} and is ${step ?? "on its way"}: ${lastError ?? "no failure is on record"}`,
    });
  }
}

function* checkLeases({ leases, moved, subnets, quarantine, intents }: CheckFacts): Generator<Finding> {
  const ownerOf = blockIndex([...subnets].map(([node, { value }]) => [parseCidr(value), node] as const));
  const resting = blockIndex([...quarantine.keys()].map((cidr) => [parseCidr(cidr), cidr] as const));
  const reclaimed = new Set([...intents.values()].map(({ value }) => value.kind === "reclaim" && value.node));
  for (const [ip, lease] of leases) {
    const { node } = lease.value;
    const served = moved.get(ip);
    const owner = ownerOf(ip);
    const about = { subject: lease.entry.key, node, ip };
    if (served) {
      if (node === served.value.node && !subnets.has(node) && !reclaimed.has(node) && !served.value.move) {
        yield findingOf("moved-to-nobody", {
          ...about,
          message: `${ip} was moved to ${node}, which owns no subnet any more, and has a lease there`,
          repair: { do: "delete-key", key: lease.entry.key, if: [same(lease), same(served)] },
        });
      }
    } else if (owner === undefined && resting(ip) === undefined) {
      yield findingOf("lease-outside-subnets", {
        ...about,
        message: `${node} has a lease of ${ip} on record, which lies in nobody's subnet`,
        repair: { do: "delete-key", key: lease.entry.key, if: [same(lease)] },
      });
    } else if (owner !== undefined && owner !== node) {
      yield findingOf("lease-of-another", {
        ...about,
        message: `${ip} lies in the subnet of ${owner}; the lease on record is ${node}'s`,
      });
    }
  }
}

/** Which of disjoint blocks an address lies in. */
export function blockIndex<T>(blocks: readonly (readonly [Cidr, T])[]): (ip: string) => T | undefined {
  const sorted = blocks.toSorted(([a], [b]) => a.base - b.base);
  return (ip) => {
    const address = parseAddress(ip);
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle]?.[0].base ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    const found = sorted[low - 1];
    return found && contains(found[0], address) ? found[1] : undefined;
  };
}

function same({ entry }: Known<unknown>): Compare {
  return { key: entry.key, modRevision: entry.modRevision };
}
