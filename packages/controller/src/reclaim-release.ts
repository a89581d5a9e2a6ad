import {
  type Compare,
  ConflictError,
  decode,
  describeError,
  type Entry,
  nodeSchema,
  notPaused,
  type Operation,
  quarantineSchema,
} from "@cocoon-net/core";
import type { Next } from "./intent-run.ts";
import { deleteLeases } from "./lease-deletion.ts";
import { isInBlock, type MovedOfNode, withMoved } from "./moved-addresses.ts";
import { type Facts, unchanged } from "./reclaim-facts.ts";
import { reclaimedResources } from "./reclaim-intent.ts";
import { isOurs, type ReclaimWork, rewritten } from "./reclaim-work.ts";

/**
 * While `releasing`: deletes the node's leases, then what it has at the cloud. The block stays in quarantine until the
 * cloud has let go of everything, however long that takes: interfaces that are left hold its addresses, and the next
 * node could not be given them. The intent remains as the note of what is left. Only where an operator forces it,
 * unfenced, is that tried no more than once here.
 */
export async function release(work: ReclaimWork, { quarantine }: Facts): Promise<Next> {
  if (!quarantine) return takenBack(work);
  if (work.context.paused()) return "held";
  const held = { key: quarantine.key, modRevision: quarantine.modRevision };
  const moved = await work.moved();
  const deleted = await deleteLeases(work.context, work.log, [held, notPaused]);
  if (!deleted) return "held";
  const left = await tryRelease(work, held, moved);
  if (left !== undefined && decode(quarantineSchema, quarantine).fenced) {
    throw new ConflictError(`the cloud still has ${left}`);
  }
  await work.log.save(
    ({ lastError: _, ...intent }) => ({
      ...intent,
      step: "waiting",
      attempts: 0,
      ...(left === undefined ? {} : { lastError: `the cloud still has ${left}` }),
    }),
    { if: [held] },
  );
  return 0;
}

/** What is left, for people; undefined when that is nothing. */
async function tryRelease(work: ReclaimWork, held: Compare, moved: MovedOfNode): Promise<string | undefined> {
  const { instanceID, eniIDs, platform } = work.intent;
  if (work.forced && instanceID === undefined && eniIDs.length === 0) return undefined;
  try {
    const cloud = await work.context.cloudFor(platform);
    const keepWarm = await work.context.keepWarm();
    const target = { ...withMoved(reclaimedResources(work.intent), moved), keepWarm };
    const { remaining } = await cloud.release(target, work.job(held), { signal: work.context.signal });
    if (remaining.length === 0) return undefined;
    return remaining.map(({ id, reason }) => `${id} (${reason})`).join(", ");
  } catch (error) {
    work.context.signal.throwIfAborted();
    if (!work.forced || isOurs(error)) throw error;
    return `what it did not release: ${describeError(error)}`;
  }
}

/**
 * While `waiting`: waits for the whole length of the quarantine, then frees the block. Both its times are of one clock,
 * so their difference is free of skew. A leader that did not see it begin waits for all of it again, never for less.
 */
export async function awaitEnd(
  work: ReclaimWork,
  { quarantine, owned, node }: Facts,
  quarantinedAt: number,
): Promise<Next> {
  if (!quarantine) return takenBack(work);
  const now = work.context.clock.monotonic();
  const { from, until } = decode(quarantineSchema, quarantine);
  const length = Date.parse(until) - Date.parse(from);
  const left = quarantinedAt + length - now;
  // In a hundred looks or fewer: whether the node has taken its block back is worth no more.
  if (left > 0) return Math.min(left, Math.max(length / 100, 1_000));
  if (work.context.paused()) return "held";
  work.context.onRested();
  // G2: an address that another node serves is its guest's, whoever the block belongs to.
  const { subnet } = work.intent;
  const moved = await work.moved();
  if (moved.records.some(({ ip }) => isInBlock(subnet, ip))) return 5_000;
  return free(work, quarantine, owned, node);
}

async function free(
  work: ReclaimWork,
  quarantine: Entry,
  owned: Entry | undefined,
  node: Entry | undefined,
): Promise<Next> {
  const { uid, subnet, lastError } = work.intent;
  const slots = await work.slots((record) => record.node === "" && record.uid === uid);
  // G12: the name may be another instance's by now, or the node may have joined elsewhere.
  const record = node && decode(nodeSchema, node);
  const leaves = record?.uid === uid && record.subnet === subnet && record.status === "quarantined";
  const leaver = leaves && !owned ? node : undefined;
  const unsaid = work.forced && lastError !== undefined ? `; ${lastError}` : "";
  const done = await work.log.end({
    if: [notPaused, ...unchanged([quarantine, ...slots]), ...unchanged(leaver ? [leaver] : [])],
    then: [
      { delete: quarantine.key },
      ...slots.map((slot): Operation => ({ delete: slot.key })),
      ...(leaver ? [rewritten(leaver, { status: "left", eniIDs: [] })] : []),
    ],
    event: {
      type: "subnet-freed",
      reason: "quarantine-over",
      message: `${subnet} is free again; ${work.intent.node} (${uid}) had it${unsaid}`,
    },
  });
  if (done) work.context.onFreed(work.context.clock.monotonic() - work.since);
  return work.ended(done);
}

async function takenBack(work: ReclaimWork): Promise<Next> {
  const { node, subnet } = work.intent;
  const message = `${subnet} is no longer in this quarantine: ${node} has taken it back; nothing was freed`;
  return work.ended(await work.log.end({ event: { type: "reclaim-ended", reason: "taken-back", message } }));
}
