import {
  type Cloud,
  type CloudJob,
  type Compare,
  ConflictError,
  decode,
  describeError,
  type Entry,
  encode,
  keys,
  type MovedRecord,
  type NodeRecord,
  nodeSchema,
  notPaused,
  type Operation,
  type QuarantineRecord,
  quarantineSchema,
  type SlotRecord,
  type Store,
  UnavailableError,
  withEnded,
} from "@cocoon-net/core";
import type { Told } from "./durable-event.ts";
import { LeadLostError } from "./fenced-writer.ts";
import type { IntentLog } from "./intent-log.ts";
import { cloudJob, type Next, type RunContext, type RunnableJob } from "./intent-run.ts";
import { deleteLeases } from "./lease-deletion.ts";
import { isInBlock, listMoved, type MovedOfNode, movedOfNode, withMoved } from "./moved-addresses.ts";
import { forcedQuarantineMs } from "./quarantine-length.ts";
import { type Facts, readFacts, readSlots, unchanged } from "./reclaim-facts.ts";
import { type ReclaimIntent, reclaimedResources } from "./reclaim-intent.ts";

export interface ReclaimContext extends RunContext {
  readonly store: Store;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly nodePrefix: number;
  readonly leaseMs: number;
  readonly quarantineMs: number;
  /** How long the node has been silent for certain. */
  readonly silentMs: () => number;
  /** Told how long it took from suspicion, as far as this process has seen it. */
  readonly onFreed: (ms: number) => void;
  /** How far another job is; undefined when there is none. */
  readonly stepOf: (intent: string) => string | undefined;
  /** How many NICs of this node may be kept with their addresses for the next one. */
  readonly keepWarm: () => Promise<number>;
  /** Whether the breaker holds everything that has not passed the fence (G13). */
  readonly massSilence: () => boolean;
  /** Whether an operator has stopped everything that frees. */
  readonly paused: () => boolean;
  /** Whether the store may have lost who owns what: everything waits then (G8). */
  readonly recovering: () => boolean;
}

/**
 * Takes a node's block back, from wherever the intent stands: fence → quarantine → release → wait → free.
 *
 * 1. Every step may be run again: each write compares the leadership, the intent's revision, and the key that still
 *    makes the block this reclaim's to touch: `subnets/{node}` at its epoch before the quarantine, `quarantine/…`
 *    after it.
 * 2. The first cloud request that changes something is written down only while `alive/{node}` is absent. Before
 *    that a node that speaks again gets everything back; after it the reclaim goes through. One that was drained has
 *    nothing left to lose, and may speak.
 * 3. Nothing is freed before the fence was read back (G5), the cloud's resources are gone, and the quarantine was
 *    waited for in full by the clock of the one who frees. A forced reclaim may do without the first two, and waits for
 *    the leases instead (G6).
 * 4. Moves of the node end before its fence, which takes in the addresses that are moved to it. The block is not free
 *    before those that are moved away have come back.
 * 5. What frees, and each request to the cloud, is noted only while `pause` is absent.
 */
export class Reclaim implements RunnableJob<ReclaimIntent> {
  readonly log: IntentLog<ReclaimIntent>;
  readonly retryEvent = "reclaim-retry";
  readonly #context: ReclaimContext;
  /** When this process first knew of it, and when it first knew the block to be in quarantine. */
  readonly #since: number;
  #quarantinedAt: number | undefined;

  constructor(log: IntentLog<ReclaimIntent>, context: ReclaimContext) {
    this.log = log;
    this.#context = context;
    this.#since = context.clock.monotonic() - context.silentMs();
  }

  describe(): string {
    return `${this.#intent.step} ${this.#intent.subnet} of ${this.#intent.node}`;
  }

  get #intent(): ReclaimIntent {
    return this.log.intent;
  }

  get #drained(): boolean {
    return this.#intent.cause === "drained";
  }

  get #forced(): boolean {
    return this.#intent.cause === "operator-forced";
  }

  async advance(): Promise<Next> {
    if (this.#context.recovering()) return "held";
    const facts = await this.#look();
    if (!facts) return "ended";
    if (this.#intent.step !== "fencing") this.#quarantinedAt ??= this.#context.clock.monotonic();
    switch (this.#intent.step) {
      case "fencing":
        return this.#fence(facts);
      case "releasing":
        return this.#release(facts);
      case "waiting":
        return this.#await(facts);
    }
  }

  /** Undefined when the intent is gone: an operator has ended it. */
  async #look(): Promise<Facts | undefined> {
    const { store, signal } = this.#context;
    const facts = await readFacts(store, this.log.id, this.#intent, signal);
    if (facts) this.log.adopt(facts.intent, facts.revision);
    return facts;
  }

  async #fence(facts: Facts): Promise<Next> {
    const { node, subnet, epoch, cause, instanceID } = this.#intent;
    const untouched = this.#intent.cloudSteps.length === 0;
    if (facts.owned?.modRevision !== epoch) {
      const message = `${node} gave ${subnet} back itself; nothing is left to reclaim`;
      return this.#ended(
        await this.log.end({ event: { type: "reclaim-ended", reason: "given-back", message } }),
      );
    }
    if (untouched && facts.alive && !this.#drained) {
      return this.#callOff(facts, this.#intent.statusBefore === "draining" ? "draining" : "ready", {
        type: "node-returned",
        reason: "spoke-again",
        message: `${node} spoke again before it was fenced`,
      });
    }
    if (this.#context.paused() || this.#context.massSilence()) return "held";
    const moved = await this.#moved();
    if (moved.records.some(({ record }) => this.#isMoving(record))) return "held";
    if (untouched && cause === "instance-gone") {
      // G8: once more, just before acting.
      const state = await this.#instanceState();
      if (state === "running") {
        return this.#callOff(facts, this.#intent.statusBefore, {
          type: "instance-running",
          reason: "instance-running",
          message: `${instanceID} runs again; ${node} stays ${this.#intent.statusBefore}`,
        });
      }
    }
    const { verified, evidence } = await this.#tryFence(moved);
    // G5, and G6 for what no fence could verify.
    if (!verified && !this.#forced) {
      throw new UnavailableError(`the fence of ${node} is not verified: ${evidence}`, { outcome: "none" });
    }
    return this.#quarantine(verified, evidence);
  }

  /** @throws {UnavailableError} when the cloud does not say */
  async #instanceState(): Promise<"running" | "stopped" | "gone"> {
    const { instanceID, platform } = this.#intent;
    if (instanceID === undefined) throw new ConflictError(`${this.#intent.node} has no instance id`);
    const cloud = await this.#context.cloudFor(platform);
    const state = await cloud.describeInstance(instanceID, { signal: this.#context.signal });
    if (state !== "unknown") return state;
    throw new UnavailableError(`${platform} does not say what became of ${instanceID}`, { outcome: "none" });
  }

  async #tryFence(moved: MovedOfNode): Promise<{ readonly verified: boolean; readonly evidence: string }> {
    const { node, epoch, platform, instanceID } = this.#intent;
    const held = { key: keys.subnet(node), modRevision: epoch };
    try {
      if (instanceID === undefined) throw new ConflictError(`${node} has no instance id`);
      const cloud = await this.#context.cloudFor(platform);
      return await cloud.fence(withMoved(reclaimedResources(this.#intent), moved), this.#job(held), {
        signal: this.#context.signal,
      });
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (!this.#forced || isOurs(error)) throw error;
      return { verified: false, evidence: describeError(error) };
    }
  }

  /** Undoes the beginning: nothing at the cloud was touched. */
  async #callOff(facts: Facts, status: NodeRecord["status"], event: Told): Promise<Next> {
    if (!facts.node) throw new ConflictError(`${keys.node(this.#intent.node)} is missing`);
    const done = await this.log.end({
      if: [
        { key: keys.subnet(this.#intent.node), modRevision: this.#intent.epoch },
        { key: facts.node.key, modRevision: facts.node.modRevision },
      ],
      then: [rewritten(facts.node, { status })],
      event,
    });
    return this.#ended(done);
  }

  /** Takes the block from the node: from here on each of its writes is refused (G3). */
  async #quarantine(fenced: boolean, evidence: string): Promise<Next> {
    const { node, uid, subnet, epoch, cloudSteps } = this.#intent;
    // What a returning node's registration looks for.
    const held = encode({ node: "", uid } satisfies SlotRecord);
    // A node that lives on rewrites its record now and then.
    for (let attempt = 0; attempt < 8; attempt++) {
      const facts = await this.#look();
      if (facts?.owned?.modRevision !== epoch) return 0;
      const slots = await this.#slots((record) => record.node === node && record.uid === uid);
      const quarantine = this.#newQuarantine(fenced, evidence, facts.node);
      const done = await this.log.save((intent) => ({ ...intent, step: "releasing", attempts: 0 }), {
        if: [
          notPaused,
          { key: keys.subnet(node), modRevision: epoch },
          ...unchanged(slots),
          ...unchanged(facts.node ? [facts.node] : []),
          ...(cloudSteps.length === 0 ? this.#stillSilent() : []),
        ],
        then: [
          { delete: keys.subnet(node) },
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

  #newQuarantine(fenced: boolean, evidence: string, node: Entry | undefined): QuarantineRecord {
    const { quarantineMs, leaseMs, clock, silentMs } = this.#context;
    const record = node && decode(nodeSchema, node);
    // G6: a node that no fence has silenced may have granted leases until it was heard last.
    const length = fenced
      ? quarantineMs
      : Math.max(quarantineMs, forcedQuarantineMs(record, leaseMs, silentMs()));
    const now = clock.now().getTime();
    return {
      node: this.#intent.node,
      uid: this.#intent.uid,
      from: new Date(now).toISOString(),
      until: new Date(now + length).toISOString(),
      reason: fenced ? `reclaimed: ${evidence}` : `forced, not fenced: ${evidence}`,
      fenced,
      intent: this.log.id,
    };
  }

  /**
   * Deletes the node's leases, then what it has at the cloud. The block stays in quarantine until the cloud has let
   * go of everything, however long that takes: interfaces that are left hold its addresses, and the next node could
   * not be given them. The intent remains as the note of what is left. Only where an operator forces it, unfenced, is
   * that tried no more than once here.
   */
  async #release({ quarantine }: Facts): Promise<Next> {
    if (!quarantine) return this.#takenBack();
    if (this.#context.paused()) return "held";
    const held = { key: quarantine.key, modRevision: quarantine.modRevision };
    const moved = await this.#moved();
    const deleted = await deleteLeases(this.#context, this.log, moved.in, [held, notPaused]);
    if (!deleted) return "held";
    const left = await this.#tryRelease(held, moved);
    if (left !== undefined && decode(quarantineSchema, quarantine).fenced) {
      throw new ConflictError(`the cloud still has ${left}`);
    }
    await this.log.save(
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
  async #tryRelease(held: Compare, moved: MovedOfNode): Promise<string | undefined> {
    const { instanceID, eniIDs, platform } = this.#intent;
    if (this.#forced && instanceID === undefined && eniIDs.length === 0) return undefined;
    try {
      const cloud = await this.#context.cloudFor(platform);
      const keepWarm = await this.#context.keepWarm();
      const target = { ...withMoved(reclaimedResources(this.#intent), moved), keepWarm };
      const { remaining } = await cloud.release(target, this.#job(held), { signal: this.#context.signal });
      if (remaining.length === 0) return undefined;
      return remaining.map(({ id, reason }) => `${id} (${reason})`).join(", ");
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (!this.#forced || isOurs(error)) throw error;
      return `what it did not release: ${describeError(error)}`;
    }
  }

  /**
   * Waits for the whole length of the quarantine: both its times are of one clock, so their difference is free of
   * skew. A leader that did not see it begin waits for all of it again, never for less.
   */
  async #await({ quarantine, owned, node }: Facts): Promise<Next> {
    if (!quarantine) return this.#takenBack();
    const now = this.#context.clock.monotonic();
    const { from, until } = decode(quarantineSchema, quarantine);
    const length = Date.parse(until) - Date.parse(from);
    const left = (this.#quarantinedAt ?? now) + length - now;
    // In a hundred looks or fewer: whether the node has taken its block back is worth no more.
    if (left > 0) return Math.min(left, Math.max(length / 100, 1_000));
    if (this.#context.paused()) return "held";
    // G2: an address that another node serves is its guest's, whoever the block belongs to.
    const { subnet } = this.#intent;
    const moved = await this.#moved();
    if (moved.records.some(({ ip }) => isInBlock(subnet, ip))) return 5_000;
    return this.#free(quarantine, owned, node);
  }

  async #free(quarantine: Entry, owned: Entry | undefined, node: Entry | undefined): Promise<Next> {
    const { uid, subnet, lastError } = this.#intent;
    const slots = await this.#slots((record) => record.node === "" && record.uid === uid);
    // G12: the name may be another instance's by now, or the node may have joined elsewhere.
    const record = node && decode(nodeSchema, node);
    const leaves = record?.uid === uid && record.subnet === subnet && record.status === "quarantined";
    const leaver = leaves && !owned ? node : undefined;
    const unsaid = this.#forced && lastError !== undefined ? `; ${lastError}` : "";
    const done = await this.log.end({
      if: [notPaused, ...unchanged([quarantine, ...slots]), ...unchanged(leaver ? [leaver] : [])],
      then: [
        { delete: quarantine.key },
        ...slots.map((slot): Operation => ({ delete: slot.key })),
        ...(leaver ? [rewritten(leaver, { status: "left", eniIDs: [] })] : []),
      ],
      event: {
        type: "subnet-freed",
        reason: "quarantine-over",
        message: `${subnet} is free again; ${this.#intent.node} (${uid}) had it${unsaid}`,
      },
    });
    if (done) this.#context.onFreed(this.#context.clock.monotonic() - this.#since);
    return this.#ended(done);
  }

  async #takenBack(): Promise<Next> {
    const { node, subnet } = this.#intent;
    const message = `${subnet} is no longer in this quarantine: ${node} has taken it back; nothing was freed`;
    return this.#ended(
      await this.log.end({ event: { type: "reclaim-ended", reason: "taken-back", message } }),
    );
  }

  #slots(expected: (record: SlotRecord) => boolean): Promise<Entry[]> {
    const { store, nodePrefix, signal } = this.#context;
    return readSlots(store, this.#intent, nodePrefix, expected, signal);
  }

  async #moved(): Promise<MovedOfNode> {
    const all = await listMoved(this.#context.store, this.#context.signal);
    return movedOfNode(all, this.#intent.node, this.#intent.subnet);
  }

  /**
   * Whether a move may still bring the address to this node at the cloud, or swap its owner. One that is being undone
   * takes it from its target: that goes on beside the target's fence, which takes the address in.
   */
  #isMoving({ move, node }: MovedRecord): boolean {
    if (!move || move.to === node) return false;
    const step = this.#context.stepOf(move.intent);
    const comesBack = step === "undoing" && move.from === this.#intent.node;
    return step === "preparing" || step === "moving" || comesBack;
  }

  #stillSilent(): readonly Compare[] {
    return this.#drained ? [] : [{ key: keys.alive(this.#intent.node), exists: false }];
  }

  /** A cloud job whose notes are in the intent; each is refused once `held` no longer holds. */
  #job(held: Compare): CloudJob {
    return cloudJob(this.log, {
      held: [held],
      before: () => {
        const fencing = this.#intent.step === "fencing";
        if (this.#context.recovering()) throw new RefusedNote("nothing is changed: the store is recovering");
        if (this.#context.paused()) throw new RefusedNote("nothing is changed: an operator has paused it");
        if (fencing && this.#context.massSilence())
          throw new RefusedNote("nothing is changed: reclaim is paused");
        const first = fencing && this.#intent.cloudSteps.length === 0;
        return [notPaused, ...(first ? this.#stillSilent() : [])];
      },
      refused: () => new RefusedNote(`${this.#intent.node} has come back, or everything was paused`),
    });
  }

  /** A last write that found something changed means: look again (G4). */
  #ended(done: boolean): Next {
    return done ? "ended" : "held";
  }
}

/** A request to the cloud was not made, because the job may not go on now. */
class RefusedNote extends ConflictError {}

function isOurs(error: unknown): boolean {
  return error instanceof RefusedNote || error instanceof LeadLostError;
}

/** The node's record once its block is taken: it names the ownership that has ended, so that none returns (G3). */
function quarantined(entry: Entry, owned: Entry, mark: Entry | undefined): Operation {
  const record: NodeRecord = { ...withEnded(decode(nodeSchema, entry), owned, mark), status: "quarantined" };
  return { put: entry.key, value: encode(record) };
}

/** Rewrites a node's record; fields that this version does not know stay. */
function rewritten(entry: Entry, change: Partial<NodeRecord>): Operation {
  return { put: entry.key, value: encode({ ...decode(nodeSchema, entry), ...change }) };
}
