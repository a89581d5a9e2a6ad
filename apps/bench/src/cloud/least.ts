import type { CallRate } from "@cocoon-net/core";

/** The least that the work needs, whoever does it: counted by hand, with the budget's own arithmetic. */
export interface Least {
  readonly reads: number;
  readonly writes: number;
  /** How the requests were counted, for the reader. */
  readonly counted: readonly string[];
  readonly ms: number;
  /** How the time was reckoned. */
  readonly reckoned: string;
}

export interface Rates {
  readonly read: CallRate;
  readonly write: CallRate;
}

/** A bucket that is always asked at the right moment: when each request can go out, in milliseconds after the first. */
export class IdealBucket {
  readonly #rate: CallRate;
  readonly #sent: number[] = [];
  #tokens: number;
  #now = 0;

  constructor(rate: CallRate) {
    this.#rate = rate;
    this.#tokens = rate.burst;
  }

  /** The next request, which is wanted no earlier than at `notBefore`. */
  next(notBefore = 0): number {
    const { perSecond, burst, perMinute } = this.#rate;
    const forToken = this.#tokens >= 1 ? this.#now : this.#now + ((1 - this.#tokens) * 1000) / perSecond;
    const minuteAgo = perMinute === undefined ? undefined : this.#sent.at(-perMinute);
    const at = Math.max(notBefore, forToken, minuteAgo === undefined ? 0 : minuteAgo + 60_000);
    this.#tokens = Math.min(burst, this.#tokens + ((at - this.#now) * perSecond) / 1000) - 1;
    this.#now = at;
    this.#sent.push(at);
    return at;
  }

  /** The last of so many, each as early as it can. */
  last(count: number): number {
    let at = 0;
    for (let n = 0; n < count; n++) at = this.next();
    return at;
  }
}

export interface VolcengineDelays {
  readonly createSubnetMs: number;
  readonly createEniMs: number;
  readonly attachMs: number;
}

/**
 * Nodes with nothing at the cloud yet. Every write goes through one bucket; the last one is an attachment, which has to
 * come into effect. A node's ENIs are made in its subnet, and attached once they are made.
 */
export function volcengineLeast(
  nodes: number,
  node: { readonly enis: number; readonly addressesPerEni: number },
  rates: Rates,
  delays: VolcengineDelays,
): Least {
  const writes = nodes * (1 + 2 * node.enis);
  const reads = nodes * 6;
  const lastWrite = Math.max(
    new IdealBucket(rates.write).last(writes),
    lastWriteOfOne(node.enis, rates, delays),
  );
  const lastRead = new IdealBucket(rates.read).last(reads);
  return {
    reads,
    writes,
    counted: [
      `${1 + 2 * node.enis} writes a node: its subnet, ${node.enis} ENIs with ${node.addressesPerEni} addresses each, ${node.enis} attachments`,
      "6 reads a node: the instance, what its type allows, the subnets; then whether the subnet is there, the ENIs are made, the ENIs are attached",
    ],
    ms: Math.max(lastWrite + delays.attachMs, lastRead),
    reckoned:
      `the last of ${writes} writes at ${seconds(lastWrite)}, and ${seconds(delays.attachMs)} until it is in effect; ` +
      `the last of ${reads} reads at ${seconds(lastRead)}`,
  };
}

/** A node that has the bucket for itself. */
function lastWriteOfOne(enis: number, rates: Rates, delays: VolcengineDelays): number {
  const bucket = new IdealBucket(rates.write);
  const subnetAt = bucket.next() + delays.createSubnetMs;
  const madeAt = Array.from({ length: enis }, () => bucket.next(subnetAt) + delays.createEniMs);
  return madeAt.reduce((last, at) => Math.max(last, bucket.next(at)), 0);
}

/** A node in a cluster whose pod range exists: one alias. */
export function gceLeast(nodes: number, rates: Rates, operationMs: number): Least {
  const writes = nodes;
  const reads = nodes * 4;
  const lastWrite = new IdealBucket(rates.write).last(writes);
  const lastRead = new IdealBucket(rates.read).last(reads);
  return {
    reads,
    writes,
    counted: [
      "1 write a node: its block on the interface",
      "4 reads a node: the instance, its subnetwork, the wait for the operation, the instance again",
    ],
    ms: Math.max(lastWrite + operationMs, lastRead),
    reckoned:
      `the last of ${writes} writes at ${seconds(lastWrite)}, and ${seconds(operationMs)} until it is done; ` +
      `the last of ${reads} reads at ${seconds(lastRead)}`,
  };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
