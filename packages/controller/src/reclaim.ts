import {
  Backoff,
  type Cloud,
  type CloudJob,
  type Compare,
  ConflictError,
  decode,
  describeError,
  type Entry,
  encode,
  type JobStep,
  keys,
  type NodeRecord,
  nodeSchema,
  type Operation,
  type QuarantineRecord,
  quarantineSchema,
  type SlotRecord,
  type Store,
  UnavailableError,
  withEnded,
} from "@cocoon-net/core";
import type { Clock } from "./clock.ts";
import { LeadLostError } from "./fenced-writer.ts";
import { deleteLeases } from "./lease-deletion.ts";
import { type Facts, readFacts, readSlots, unchanged } from "./reclaim-facts.ts";
import { type ReclaimIntent, resourcesOf, withStep } from "./reclaim-intent.ts";
import type { ReclaimLog } from "./reclaim-log.ts";

export interface ReclaimContext {
  readonly store: Store;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly nodePrefix: number;
  readonly quarantineMs: number;
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
  /** How often a wait looks whether it may go on. */
  readonly tickMs: number;
  /** Whether the breaker holds everything that has not passed the fence (G13). */
  readonly paused: () => boolean;
  /** Whether the store may have lost who owns what: everything waits then (G8). */
  readonly recovering: () => boolean;
}

/** The intent is gone, or how many milliseconds to wait before looking again. */
type Next = "ended" | number;

/**
 * Takes a dead node's block back, from wherever the intent stands: fence → quarantine → release → wait → free.
 *
 * 1. Every step may be run again: each write compares the leadership, the intent's revision, and the key that still
 *    makes the block this reclaim's to touch: `subnets/{node}` at its epoch before the quarantine, `quarantine/…`
 *    after it.
 * 2. The first cloud request that changes something is written down only while `alive/{node}` is absent. Before
 *    that a node that speaks again gets everything back; after it the reclaim goes through.
 * 3. Nothing is freed before the fence was read back (G5), the cloud's resources are gone, and the quarantine was
 *    waited for in full by the clock of the one who frees.
 */
export class Reclaim {
  readonly #log: ReclaimLog;
  readonly #context: ReclaimContext;
  /** When this process first knew the block to be in quarantine. */
  #quarantinedAt: number | undefined;

  constructor(log: ReclaimLog, context: ReclaimContext) {
    this.#log = log;
    this.#context = context;
  }

  /** Ends with the intent. @throws {LeadLostError}; the signal's reason. */
  async run(): Promise<void> {
    const { clock, signal, retryFirstMs, retryMaxMs } = this.#context;
    const pauses = new Backoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    for (let step = this.#intent.step; ; ) {
      try {
        const next = await this.#advance();
        if (next === "ended") return;
        if (this.#intent.step !== step) pauses.reset();
        step = this.#intent.step;
        await clock.wait(next, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LeadLostError) throw error;
        await this.#noteFailure(error);
        await clock.wait(pauses.next(), signal);
      }
    }
  }

  get #intent(): ReclaimIntent {
    return this.#log.intent;
  }

  async #advance(): Promise<Next> {
    if (this.#context.recovering()) return this.#context.tickMs;
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
    const facts = await readFacts(store, this.#log.id, this.#intent, signal);
    if (facts) this.#log.adopt(facts.intent, facts.revision);
    return facts;
  }

  async #fence(facts: Facts): Promise<Next> {
    const { node, subnet, epoch, instanceID, platform } = this.#intent;
    const untouched = this.#intent.cloudSteps.length === 0;
    if (facts.owned?.modRevision !== epoch) {
      const message = `${node} gave ${subnet} back itself; nothing is left to reclaim`;
      return this.#ended(await this.#log.end({ event: ["reclaim-ended", message] }));
    }
    if (untouched && facts.alive) {
      return this.#callOff(facts, "ready", "node-returned", `${node} spoke again before it was fenced`);
    }
    if (this.#context.paused()) return this.#context.tickMs;
    const { signal } = this.#context;
    const cloud = await this.#context.cloudFor(platform);
    if (untouched) {
      // G8: once more, just before acting.
      const state = await cloud.describeInstance(instanceID, { signal });
      if (state === "running") {
        const message = `${instanceID} runs again; ${node} stays suspect`;
        return this.#callOff(facts, "suspect", "instance-running", message);
      }
      if (state === "unknown") {
        throw new UnavailableError(`${platform} does not say what became of ${instanceID}`, {
          outcome: "none",
        });
      }
    }
    const held = { key: keys.subnet(node), modRevision: epoch };
    const fence = await cloud.fence(resourcesOf(this.#intent), this.#job(held), { signal });
    // G5
    if (!fence.verified) {
      throw new UnavailableError(`the fence of ${node} is not verified: ${fence.evidence}`, {
        outcome: "none",
      });
    }
    return this.#quarantine(fence.evidence);
  }

  /** Undoes the beginning: nothing at the cloud was touched. */
  async #callOff(
    facts: Facts,
    status: "ready" | "suspect",
    type: "node-returned" | "instance-running",
    message: string,
  ): Promise<Next> {
    if (!facts.node) throw new ConflictError(`${keys.node(this.#intent.node)} is missing`);
    const record: NodeRecord = { ...decode(nodeSchema, facts.node), status };
    const done = await this.#log.end({
      if: [
        { key: keys.subnet(this.#intent.node), modRevision: this.#intent.epoch },
        { key: facts.node.key, modRevision: facts.node.modRevision },
      ],
      then: [{ put: facts.node.key, value: encode(record) }],
      event: [type, message],
    });
    return this.#ended(done);
  }

  /** Takes the block from the node: from here on each of its writes is refused (G3). */
  async #quarantine(evidence: string): Promise<Next> {
    const { node, uid, subnet, epoch, cloudSteps } = this.#intent;
    const now = this.#context.clock.now().getTime();
    const quarantine: QuarantineRecord = {
      node,
      uid,
      from: new Date(now).toISOString(),
      until: new Date(now + this.#context.quarantineMs).toISOString(),
      reason: `reclaimed: ${evidence}`,
      fenced: true,
      intent: this.#log.id,
    };
    // What a returning node's registration looks for.
    const held = encode({ node: "", uid } satisfies SlotRecord);
    // A node that lives on rewrites its record now and then.
    for (let attempt = 0; attempt < 8; attempt++) {
      const facts = await this.#look();
      if (facts?.owned?.modRevision !== epoch) return 0;
      const slots = await this.#slots((record) => record.node === node && record.uid === uid);
      const done = await this.#log.save((intent) => ({ ...intent, step: "releasing", attempts: 0 }), {
        if: [
          { key: keys.subnet(node), modRevision: epoch },
          ...unchanged(slots),
          ...unchanged(facts.node ? [facts.node] : []),
          ...(cloudSteps.length === 0 ? [{ key: keys.alive(node), exists: false }] : []),
        ],
        then: [
          { delete: keys.subnet(node) },
          ...slots.map((slot): Operation => ({ put: slot.key, value: held })),
          { put: keys.quarantine(subnet), value: encode(quarantine) },
          ...(facts.node ? [quarantined(facts.node, facts.owned, facts.mark)] : []),
        ],
        event: ["subnet-quarantined", `${subnet} is taken from ${node}: ${evidence}`],
      });
      if (done) return 0;
    }
    throw new ConflictError(`${keys.node(node)} kept changing while it was put into quarantine`);
  }

  /**
   * Deletes the node's leases, then what it has at the cloud. The block stays in quarantine until the cloud has let
   * go of everything, however long that takes: interfaces that are left hold its addresses, and the next node could
   * not be given them. The intent remains as the note of what is left.
   */
  async #release({ quarantine }: Facts): Promise<Next> {
    if (!quarantine) return this.#takenBack();
    const held = { key: quarantine.key, modRevision: quarantine.modRevision };
    if (!(await deleteLeases(this.#context, this.#log, held))) return this.#context.tickMs;
    const cloud = await this.#context.cloudFor(this.#intent.platform);
    const { remaining } = await cloud.release(resourcesOf(this.#intent), this.#job(held), {
      signal: this.#context.signal,
    });
    if (remaining.length > 0) {
      const list = remaining.map(({ id, reason }) => `${id} (${reason})`).join(", ");
      throw new ConflictError(`the cloud still has ${list}`);
    }
    await this.#log.save((intent) => ({ ...intent, step: "waiting", attempts: 0 }), { if: [held] });
    return 0;
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
    return this.#free(quarantine, owned, node);
  }

  async #free(quarantine: Entry, owned: Entry | undefined, node: Entry | undefined): Promise<Next> {
    const { uid, subnet } = this.#intent;
    const slots = await this.#slots((record) => record.node === "" && record.uid === uid);
    // G12: the name may be another instance's by now, or the node may have joined elsewhere.
    const record = node && decode(nodeSchema, node);
    const leaves = record?.uid === uid && record.subnet === subnet && record.status === "quarantined";
    const leaver = leaves && !owned ? node : undefined;
    const done = await this.#log.end({
      if: [...unchanged([quarantine, ...slots]), ...unchanged(leaver ? [leaver] : [])],
      then: [
        { delete: quarantine.key },
        ...slots.map((slot): Operation => ({ delete: slot.key })),
        ...(leaver ? [rewritten(leaver, { status: "left", eniIDs: [] })] : []),
      ],
      event: ["subnet-freed", `${subnet} is free again; ${this.#intent.node} (${uid}) had it`],
    });
    return this.#ended(done);
  }

  async #takenBack(): Promise<Next> {
    const { node, subnet } = this.#intent;
    const message = `${subnet} is no longer in this quarantine: ${node} has taken it back; nothing was freed`;
    return this.#ended(await this.#log.end({ event: ["reclaim-ended", message] }));
  }

  #slots(expected: (record: SlotRecord) => boolean): Promise<Entry[]> {
    const { store, nodePrefix, signal } = this.#context;
    return readSlots(store, this.#intent, nodePrefix, expected, signal);
  }

  /** A cloud job whose notes are in the intent; each is refused once `held` no longer holds. */
  #job(held: Compare): CloudJob {
    const record = async (step: JobStep) => {
      if (step.phase === "intent" && this.#context.recovering()) {
        throw new ConflictError(`${step.action} was not made: the store is recovering`);
      }
      const fencing = this.#intent.step === "fencing";
      const first = fencing && this.#intent.cloudSteps.length === 0;
      if (fencing && step.phase === "intent" && this.#context.paused()) {
        throw new ConflictError(`${step.action} was not made: reclaim is paused`);
      }
      const alive = { key: keys.alive(this.#intent.node), exists: false };
      const saved = await this.#log.save(
        (intent) => ({ ...intent, cloudSteps: withStep(intent.cloudSteps, step) }),
        { if: [held, ...(first ? [alive] : [])] },
      );
      if (saved) return;
      throw new ConflictError(`${step.action} was not made: ${this.#intent.node} has come back meanwhile`);
    };
    return { id: this.#log.id, steps: this.#intent.cloudSteps, record };
  }

  /** A last write that found something changed means: look again (G4). */
  #ended(done: boolean): Next {
    return done ? "ended" : this.#context.tickMs;
  }

  /** Written into the intent each time, and told at the first, second, fourth … failure of a step. */
  async #noteFailure(error: unknown): Promise<void> {
    const attempts = this.#intent.attempts + 1;
    const message = `${this.#intent.step} ${this.#intent.subnet} of ${this.#intent.node}: ${describeError(error)}`;
    try {
      await this.#log.save((intent) => ({ ...intent, attempts, lastError: message }), {
        ...(Number.isInteger(Math.log2(attempts)) ? { event: ["reclaim-retry", message] } : {}),
      });
    } catch (failure) {
      this.#context.signal.throwIfAborted();
      if (failure instanceof LeadLostError) throw failure;
      // A store that is full, say: the step is tried again all the same, and it fails where it matters.
    }
  }
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
