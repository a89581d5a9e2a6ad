import { IdealBucket, type Least } from "../cloud/least.ts";
import type { ControllerSizes } from "./sizes.ts";

export interface ReclaimLeast extends Least {
  /** Until the last of them is fenced. */
  readonly fencedMs: number;
}

const readsPerNode = 9;

/**
 * The least that taking so many lost nodes back needs, from the first question to the cloud until the last block is
 * free. Every write goes through one bucket; which node's are first makes no difference to the last.
 */
export function reclaimLeast(nodes: number, sizes: ControllerSizes): ReclaimLeast {
  const { enisPerNode, rates, delays, confirmAfterMs, quarantineMs } = sizes;
  const bucket = new IdealBucket(rates.write);
  const half = nodes * enisPerNode;
  let detached = 0;
  for (let n = 0; n < half; n++) detached = bucket.next(confirmAfterMs);
  const fencedMs = detached + delays.detachMs;
  const writes = 2 * half;
  // One that is alone has to wait for its fence; of many, some are always ready.
  const alone = nodes === 1 ? fencedMs : 0;
  let deleted = 0;
  for (let n = 0; n < half; n++) deleted = bucket.next(alone);
  const reads = nodes * readsPerNode;
  const lastRead = new IdealBucket(rates.read).last(reads);
  const ms = Math.max(deleted + delays.deleteEniMs, fencedMs + quarantineMs, lastRead);
  return {
    reads,
    writes,
    fencedMs,
    ms,
    counted: [
      `${2 * enisPerNode} writes a node: each of its ${enisPerNode} ENIs detached, then deleted`,
      `${readsPerNode} reads a node: the instance twice, ${seconds(confirmAfterMs)} apart, and just before the fence; ` +
        "its ENIs, the same detached, its subnet, the instance once more; its ENIs before they are deleted, and after",
    ],
    reckoned:
      `the last of ${half} detachments at ${seconds(detached)} and in effect ${seconds(delays.detachMs)} later; ` +
      `the last of ${writes} writes at ${seconds(deleted)}, in effect ${seconds(delays.deleteEniMs)} later; ` +
      `${seconds(quarantineMs)} of quarantine beside that; the last of ${reads} reads at ${seconds(lastRead)}`,
  };
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
