import {
  ConflictError,
  decode,
  describeError,
  type Entry,
  encode,
  keys,
  leaseSchema,
  type MovedRecord,
  type NodeRecord,
  nodeSchema,
  notPaused,
  type Operation,
  type QuarantineRecord,
  type SlotRecord,
  UnavailableError,
  withEnded,
} from "@cocoon-net/core";
import type { Told } from "./durable-event.ts";
import type { Next } from "./intent-run.ts";
import { type MovedOfNode, mayHaveStill, serves, withMoved } from "./moved-addresses.ts";
import { forcedQuarantineMs } from "./quarantine-length.ts";
import { type Facts, unchanged } from "./reclaim-facts.ts";
import { reclaimedResources } from "./reclaim-intent.ts";
import { isOurs, type ReclaimWork, rewritten } from "./reclaim-work.ts";

/** While `fencing`: makes the cloud stop delivering the node's block, and takes the block from it. */
export async function fence(work: ReclaimWork, facts: Facts): Promise<Next> {
  const { node, subnet, epoch, cause, instanceID } = work.intent;
  const { untouched } = work;
  if (facts.owned?.modRevision !== epoch) {
    const message = `${node} gave ${subnet} back itself; nothing is left to reclaim`;
    return work.ended(
      await work.log.end({ event: { type: "reclaim-ended", reason: "given-back", message } }),
    );
  }
  if (untouched && facts.alive && !work.drained) {
    return callOff(work, facts, work.intent.statusBefore === "draining" ? "draining" : "ready", {
      type: "node-returned",
      reason: "spoke-again",
      message: `${node} spoke again before it was fenced`,
    });
  }
  if (work.context.paused() || work.context.massSilence()) return "held";
  const moved = await work.moved();
  if (moved.records.some(({ record }) => isMoving(work, record))) return "held";
  if (untouched && cause === "instance-gone") {
    // G8: once more, just before acting.
    const state = await instanceState(work);
    if (state === "running") {
      return callOff(work, facts, work.intent.statusBefore, {
        type: "instance-running",
        reason: "instance-running",
        message: `${instanceID} runs again; ${node} stays ${work.intent.statusBefore}`,
      });
    }
  }
  const { verified, evidence } = await tryFence(work, moved);
  // G5, and G6 for what no fence could verify.
  if (!verified && !work.forced) {
    throw new UnavailableError(`the fence of ${node} is not verified: ${evidence}`, { outcome: "none" });
  }
  if (!(await disown(work, moved, verified))) return "held";
  return quarantine(work, verified, evidence);
}

/** @throws {UnavailableError} when the cloud does not say */
async function instanceState(work: ReclaimWork): Promise<"running" | "stopped" | "gone"> {
  const { instanceID, platform } = work.intent;
  if (instanceID === undefined) throw new ConflictError(`${work.intent.node} has no instance id`);
  const cloud = await work.context.cloudFor(platform);
  const state = await cloud.describeInstance(instanceID, { signal: work.context.signal });
  if (state !== "unknown") return state;
  throw new UnavailableError(`${platform} does not say what became of ${instanceID}`, { outcome: "none" });
}

async function tryFence(
  work: ReclaimWork,
  moved: MovedOfNode,
): Promise<{ readonly verified: boolean; readonly evidence: string }> {
  const { node, epoch, platform, instanceID } = work.intent;
  const held = { key: keys.subnet(node), modRevision: epoch };
  try {
    if (instanceID === undefined) throw new ConflictError(`${node} has no instance id`);
    const cloud = await work.context.cloudFor(platform);
    return await cloud.fence(withMoved(reclaimedResources(work.intent), moved), work.job(held), {
      signal: work.context.signal,
    });
  } catch (error) {
    work.context.signal.throwIfAborted();
    if (!work.forced || isOurs(error)) throw error;
    return { verified: false, evidence: describeError(error) };
  }
}

/**
 * What was moved to the node is taken with its block: from here on nobody serves it, not even the same instance when it
 * joins anew, and it goes home. Written while the node owns its block still, so that none can join before it; with what
 * no fence could verify, so that the cloud is asked for it on the way (G5). False when something changed meanwhile: look
 * again (G4).
 */
async function disown(work: ReclaimWork, moved: MovedOfNode, fenced: boolean): Promise<boolean> {
  const { node, epoch, instanceID } = work.intent;
  const { store, signal } = work.context;
  for (const { ip, record, entry } of moved.records) {
    const isServed = serves(work.intent, record);
    // A move that is being undone is to take it from this node, when the node is not fenced.
    const comesBack = moved.in.includes(ip) && record.move?.to === node;
    const isIn = isServed || mayHaveStill(work.intent, record) || (comesBack && !fenced);
    if (!isIn) continue;
    const { unfenced: _, ...known } = record;
    const { entry: found } = await store.get(keys.pool(ip), { signal });
    const lease = isServed && found && decode(leaseSchema, found).node === node ? found : undefined;
    const written: MovedRecord = {
      ...known,
      ...(isServed ? { uid: "" } : {}),
      ...(fenced || instanceID === undefined ? {} : { unfenced: instanceID }),
    };
    const done = await work.log.save((intent) => ({ ...intent, disowned: true }), {
      if: [
        notPaused,
        { key: keys.subnet(node), modRevision: epoch },
        ...unchanged(lease ? [entry, lease] : [entry]),
        ...(work.untouched ? work.stillSilent() : []),
      ],
      then: [{ put: entry.key, value: encode(written) }, ...(lease ? [{ delete: lease.key }] : [])],
    });
    if (!done) return false;
  }
  return true;
}

/** Undoes the beginning: nothing at the cloud was touched. */
async function callOff(
  work: ReclaimWork,
  facts: Facts,
  status: NodeRecord["status"],
  event: Told,
): Promise<Next> {
  if (!facts.node) throw new ConflictError(`${keys.node(work.intent.node)} is missing`);
  const done = await work.log.end({
    if: [
      { key: keys.subnet(work.intent.node), modRevision: work.intent.epoch },
      { key: facts.node.key, modRevision: facts.node.modRevision },
    ],
    then: [rewritten(facts.node, { status })],
    event,
  });
  return work.ended(done);
}

/** Takes the block from the node: from here on each of its writes is refused (G3). */
async function quarantine(work: ReclaimWork, fenced: boolean, evidence: string): Promise<Next> {
  const { node, uid, subnet, epoch } = work.intent;
  // What a returning node's registration looks for.
  const held = encode({ node: "", uid } satisfies SlotRecord);
  // A node that lives on rewrites its record now and then.
  for (let attempt = 0; attempt < 8; attempt++) {
    const facts = await work.look();
    if (facts?.owned?.modRevision !== epoch) return 0;
    const slots = await work.slots((record) => record.node === node && record.uid === uid);
    const quarantine = newQuarantine(work, fenced, evidence, facts.node);
    const done = await work.log.save((intent) => ({ ...intent, step: "releasing", attempts: 0 }), {
      if: [
        notPaused,
        { key: keys.subnet(node), modRevision: epoch },
        ...unchanged(slots),
        ...unchanged(facts.node ? [facts.node] : []),
        ...(work.untouched ? work.stillSilent() : []),
      ],
      then: [
        { delete: keys.subnet(node) },
        // What it fenced, the claim that has gone refuses from now on.
        { delete: keys.acted(node) },
        ...slots.map((slot): Operation => ({ put: slot.key, value: held })),
        { put: keys.quarantine(subnet), value: encode(quarantine) },
        ...(facts.node ? [quarantined(facts.node, facts.owned, facts.mark)] : []),
      ],
      event: {
        type: "subnet-quarantined",
        reason: fenced ? "fenced" : "not-fenced",
        message: `${subnet} is taken from ${node} until ${quarantine.until}: ${evidence}`,
      },
    });
    if (done) return 0;
  }
  throw new ConflictError(`${keys.node(node)} kept changing while it was put into quarantine`);
}

function newQuarantine(
  work: ReclaimWork,
  fenced: boolean,
  evidence: string,
  node: Entry | undefined,
): QuarantineRecord {
  const { quarantineMs, leaseMs, clock, silentMs } = work.context;
  const record = node && decode(nodeSchema, node);
  // G6: a node that no fence has silenced may have granted leases until it was heard last.
  const length = fenced
    ? quarantineMs
    : Math.max(quarantineMs, forcedQuarantineMs(record, leaseMs, silentMs()));
  const now = clock.now().getTime();
  return {
    node: work.intent.node,
    uid: work.intent.uid,
    from: new Date(now).toISOString(),
    until: new Date(now + length).toISOString(),
    reason: fenced ? `reclaimed: ${evidence}` : `forced, not fenced: ${evidence}`,
    fenced,
    intent: work.log.id,
  };
}

/**
 * Whether a move may still bring the address to this node at the cloud, or swap its owner. One that is being undone
 * takes it from its target: that goes on beside the target's fence, which takes the address in.
 */
function isMoving(work: ReclaimWork, { move, node }: MovedRecord): boolean {
  if (!move || move.to === node) return false;
  const step = work.context.stepOf(move.intent);
  const comesBack = step === "undoing" && move.from === work.intent.node;
  return step === "preparing" || step === "moving" || comesBack;
}

/** The node's record once its block is taken: it names the ownership that has ended, so that none returns (G3). */
function quarantined(entry: Entry, owned: Entry, mark: Entry | undefined): Operation {
  const record: NodeRecord = { ...withEnded(decode(nodeSchema, entry), owned, mark), status: "quarantined" };
  return { put: entry.key, value: encode(record) };
}
