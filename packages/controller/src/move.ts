import {
  AuthError,
  type Cloud,
  type CloudJob,
  CocoonError,
  type Compare,
  ConflictError,
  describeError,
  encode,
  type JobStep,
  keys,
  type MovedRecord,
  type NodeNetwork,
  type NodeRecord,
  type NodeResources,
  NotFoundError,
  type Operation,
  type Store,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import type { EventReason } from "./controller-event.ts";
import { LeadLostError } from "./fenced-writer.ts";
import { withStep } from "./intent.ts";
import type { IntentLog } from "./intent-log.ts";
import type { Next, RunContext, RunnableJob } from "./intent-run.ts";
import {
  identityOf,
  type MoveFacts,
  type MoveSide,
  movingResources,
  readMoveFacts,
  stillThere,
} from "./move-facts.ts";
import type { MoveIntent } from "./move-intent.ts";
import { listMoved } from "./moved-addresses.ts";

export interface MoveContext extends RunContext {
  readonly store: Store;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly tags: Readonly<Record<string, string>>;
  /** How long the agents may take to say that they act by the record. */
  readonly prepareMs: number;
  readonly recovering: () => boolean;
}

type Stop = readonly [reason: EventReason, message: string];

/** Failures of the cloud, in a row, after which the address goes back: on the way it is delivered to nobody. */
const mostFailures = 8;

/**
 * Moves one address: prepared by both agents → cloud → owner swapped → served by the target.
 *
 * 1. `moved/{ip}` names this move from its first moment to its last, and each write compares it, the leadership and the
 *    intent's revision. From the first moment on nobody grants the address to anybody else (G2).
 * 2. The swap compares the lease that it moves (G4), the target's claim and that it is alive. Until then everything can
 *    be undone, and is, when one of the two nodes falls silent, the guest goes, an agent does not answer, or the cloud
 *    refuses. After it the target has the address, whatever becomes of it: its own reclaim takes it then.
 * 3. Before a node is fenced its moves are stopped. An address never goes back to a node that is being fenced (G5): it is
 *    taken from the target then, and nobody has it until the home node asks the cloud for it again.
 */
export class Move implements RunnableJob<MoveIntent> {
  readonly log: IntentLog<MoveIntent>;
  readonly retryEvent = "move-retry";
  readonly #context: MoveContext;
  readonly #since: number;

  constructor(log: IntentLog<MoveIntent>, context: MoveContext) {
    this.log = log;
    this.#context = context;
    this.#since = context.clock.monotonic();
  }

  describe(): string {
    return `${this.#intent.step} ${this.#intent.ip} from ${this.#intent.from} to ${this.#intent.to || "nobody"}`;
  }

  get #intent(): MoveIntent {
    return this.log.intent;
  }

  async advance(): Promise<Next> {
    const { store, signal, recovering } = this.#context;
    if (recovering()) return "held";
    const facts = await readMoveFacts(store, this.log.id, this.#intent, signal);
    if (!facts) return "ended";
    this.log.adopt(facts.intent, facts.revision);
    if (!facts.moved) {
      const message = `${this.#intent.ip} is no longer being moved; nothing is left to do`;
      return this.#ended(await this.log.end({ event: { type: "move-ended", reason: "overtaken", message } }));
    }
    switch (this.#intent.step) {
      case "preparing":
        return this.#prepare(facts, facts.moved.record);
      case "moving":
        return this.#move(facts, facts.moved.record);
      case "settling":
        return this.#settle(facts, facts.moved.record);
      case "undoing":
        return this.#undo(facts, facts.moved.record);
    }
  }

  async #prepare(facts: MoveFacts, moved: MovedRecord): Promise<Next> {
    const { clock, prepareMs } = this.#context;
    const late = [facts.from, facts.to].filter(
      ({ node, owner }) => owner !== undefined && !moved.move?.ready.includes(node),
    );
    const tooLate: Stop | undefined =
      late.length > 0 && clock.monotonic() - this.#since >= prepareMs
        ? ["agents-not-ready", `the agent of ${late.map(({ node }) => node).join(" and ")} does not answer`]
        : undefined;
    const stop = this.#obstacle(facts) ?? tooLate;
    if (stop) return this.#abort(facts, moved, stop);
    if (late.length > 0) return "held";
    await this.log.save((intent) => ({ ...intent, step: "moving", attempts: 0 }), { if: this.#held(facts) });
    return 0;
  }

  async #move(facts: MoveFacts, moved: MovedRecord): Promise<Next> {
    const untouched = this.#intent.cloudSteps.length === 0;
    const obstacle = this.#obstacle(facts) ?? this.#tooOften();
    if (obstacle) return untouched ? this.#abort(facts, moved, obstacle) : this.#turnBack(facts, obstacle);
    let network: NodeNetwork | undefined;
    try {
      network = await this.#tellCloud(facts);
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (!isFinal(error)) throw error;
      const stop: Stop = ["cloud-refused", describeError(error)];
      return this.#intent.cloudSteps.length === 0
        ? this.#abort(facts, moved, stop)
        : this.#turnBack(facts, stop);
    }
    const done =
      this.#intent.purpose === "return" ? await this.#end(facts) : await this.#swap(facts, moved, network);
    return done === "ended" ? "ended" : done ? 0 : "held";
  }

  /** What the target has then. */
  async #tellCloud(facts: MoveFacts): Promise<NodeNetwork | undefined> {
    const { ip, platform } = this.#intent;
    const { signal, tags } = this.#context;
    const { from, to } = await this.#resources(facts);
    const job = this.#job("cloudSteps", [...this.#held(facts), ...this.#sidesHold(facts)]);
    if (!facts.to.owner) {
      await this.#take(facts.from, from, job);
      return undefined;
    }
    const cloud = await this.#context.cloudFor(platform);
    const result = await cloud.move({ address: ip, from, to, instance: identityOf(facts.to), tags }, job, {
      signal,
    });
    if (result.verified) return result.network;
    throw new UnavailableError(`the move of ${ip} is not verified: ${result.evidence}`, { outcome: "none" });
  }

  /** The instance does not have the address any more then. */
  async #take({ node, owner }: MoveSide, resources: NodeResources, job: CloudJob): Promise<void> {
    const { ip, platform } = this.#intent;
    // It was fenced, and this address with it. A forced reclaim that was not, has noted the instance (`unfenced`).
    if (resources.instanceID === undefined) return;
    const cloud = await this.#context.cloudFor(platform);
    try {
      const { addresses } = await cloud.shrink(resources, [ip], job, { signal: this.#context.signal });
      if (!addresses.includes(ip)) return;
    } catch (error) {
      // One that is gone has nothing (G5).
      if (!owner && error instanceof NotFoundError) return;
      throw error;
    }
    throw new UnavailableError(`${node} still has ${ip}`, { outcome: "none" });
  }

  /** False when something has changed: look again. */
  async #swap(facts: MoveFacts, moved: MovedRecord, network: NodeNetwork | undefined): Promise<boolean> {
    const { lease, to } = facts;
    const { ip, from } = this.#intent;
    if (!lease || !moved.move || !to.owner) return false;
    const { nicMACs: _, ...before } = moved;
    const { eniIDs = [], nicMACs = [] } = network ?? {};
    const swapped: MovedRecord = {
      ...before,
      ...(nicMACs.length > 0 ? { nicMACs } : {}),
      node: to.node,
      uid: this.#intent.toUID,
      seq: moved.seq + 1,
      move: { ...moved.move, ready: [] },
    };
    const { record, entry } = to.owner;
    const nics = [...new Set([...record.eniIDs, ...eniIDs])];
    const node: NodeRecord = { ...record, eniIDs: nics };
    return this.log.save((intent) => ({ ...intent, step: "settling", attempts: 0 }), {
      if: [
        ...this.#held(facts),
        { key: lease.entry.key, modRevision: lease.entry.modRevision },
        { key: entry.key, modRevision: entry.modRevision },
        ...stillThere(to),
      ],
      then: [
        { put: keys.moved(ip), value: encode(swapped) },
        { put: lease.entry.key, value: encode({ ...lease.record, node: to.node }) },
        ...(nics.length > record.eniIDs.length ? [{ put: entry.key, value: encode(node) }] : []),
      ],
      event: { type: "address-moved", reason: "operator", message: `${ip} is ${to.node}'s; ${from} had it` },
    });
  }

  /** The end of a return: the address is its home node's to grant again, or nobody's. */
  async #end(facts: MoveFacts): Promise<Next> {
    const { ip, from, to } = this.#intent;
    const done = await this.log.end({
      if: [...this.#held(facts), { key: keys.pool(ip), exists: false }],
      then: [{ delete: keys.moved(ip) }],
      event: {
        type: "address-returned",
        reason: "guest-gone",
        message:
          to === "" ? `${ip} was taken from ${from}; its subnet is nobody's` : `${ip} is back at ${to}`,
      },
    });
    return this.#ended(done);
  }

  async #settle(facts: MoveFacts, moved: MovedRecord): Promise<Next> {
    const { ip, from } = this.#intent;
    const { to } = facts;
    if (to.owner && !moved.move?.ready.includes(to.node)) return "held";
    const { move: _, ...settled } = moved;
    // Back in the subnet that it is of: it is an address like any other there.
    const isHome = to.owner?.record.subnet === moved.subnet;
    const done = await this.log.end({
      if: this.#held(facts),
      then: [isHome ? { delete: keys.moved(ip) } : { put: keys.moved(ip), value: encode(settled) }],
      event: to.owner
        ? { type: "move-finished", reason: "served", message: `${to.node} serves ${ip}; ${from} had it` }
        : {
            type: "move-ended",
            reason: "target-silent",
            message: `${to.node} was lost before it served ${ip}; what becomes of the address is up to its reclaim`,
          },
    });
    return this.#ended(done);
  }

  async #turnBack(facts: MoveFacts, [reason, message]: Stop): Promise<Next> {
    const stopped = `${reason}: ${message}`;
    await this.log.save((intent) => ({ ...intent, step: "undoing", attempts: 0, stopped }), {
      if: this.#held(facts),
      event: { type: "move-undoing", reason, message: `${this.#intent.ip} goes back: ${message}` },
    });
    return 0;
  }

  async #undo(facts: MoveFacts, moved: MovedRecord): Promise<Next> {
    const { ip, platform, stopped = "" } = this.#intent;
    const { signal, tags } = this.#context;
    const { from, to } = await this.#resources(facts);
    const source = facts.from.owner;
    const goesBack = source !== undefined && source.record.status !== "fencing";
    const unfenced = goesBack ? [{ key: source.entry.key, modRevision: source.entry.modRevision }] : [];
    const job = this.#job("undoSteps", [...this.#held(facts), ...unfenced]);
    if (goesBack) {
      const cloud = await this.#context.cloudFor(platform);
      const request = { address: ip, from: to, to: from, instance: identityOf(facts.from), tags };
      const { verified, evidence } = await cloud.move(request, job, { signal });
      if (!verified) {
        throw new UnavailableError(`the way back of ${ip} is not verified: ${evidence}`, { outcome: "none" });
      }
    } else await this.#take(facts.to, to, job);
    const [reason, message] = stopOf(stopped);
    // A return that is given up may leave it with that instance; what is back at its source is nobody else's.
    const { unfenced: _, ...taken } = moved;
    return this.#abort(facts, this.#intent.purpose === "migrate" ? taken : moved, [reason, message]);
  }

  /** Everything is as it was before. */
  async #abort(facts: MoveFacts, moved: MovedRecord, [reason, message]: Stop): Promise<Next> {
    const { ip, isFirst, to } = this.#intent;
    const { move: _, ...before } = moved;
    const undone: Operation = isFirst
      ? { delete: keys.moved(ip) }
      : { put: keys.moved(ip), value: encode(before) };
    const done = await this.log.end({
      if: this.#held(facts),
      then: [undone],
      event: {
        type: "move-aborted",
        reason,
        message: `${ip} was not moved to ${to || "nobody"}: ${message}`,
      },
    });
    return this.#ended(done);
  }

  /** Why it cannot go on, before the swap. */
  #obstacle({ intent, lease, from, to }: MoveFacts): Stop | undefined {
    if (intent.stopped !== undefined) return stopOf(intent.stopped);
    if (intent.purpose === "return") {
      if (lease) return ["lease-changed", `${intent.ip} has a guest again`];
      if (from.owner && !from.alive) return ["source-silent", `${from.node} is silent`];
      if (intent.to !== "" && (!to.owner || !to.alive)) return ["target-silent", `${to.node} is silent`];
      return undefined;
    }
    if (!from.owner || !from.alive) return ["source-silent", `${from.node} is silent, or gone`];
    if (!to.owner || !to.alive) return ["target-silent", `${to.node} is silent, or gone`];
    if (to.owner.record.status !== "ready") {
      return ["target-not-ready", `${to.node} is ${to.owner.record.status}`];
    }
    // G4
    if (lease?.record.mac !== intent.mac || lease.record.node !== intent.from) {
      return ["lease-changed", `the lease of ${intent.ip} has ended, or is another one`];
    }
    return undefined;
  }

  #tooOften(): Stop | undefined {
    if (this.#intent.attempts < mostFailures) return undefined;
    return ["cloud-refused", this.#intent.lastError ?? "the cloud does not do it"];
  }

  async #resources({ from, to }: MoveFacts): Promise<Readonly<Record<"from" | "to", NodeResources>>> {
    const all = await listMoved(this.#context.store, this.#context.signal);
    const { ip } = this.#intent;
    return { from: movingResources(from, ip, all), to: movingResources(to, ip, all) };
  }

  #held({ moved }: MoveFacts): Compare[] {
    const { ip } = this.#intent;
    return moved ? [{ key: keys.moved(ip), modRevision: moved.entry.modRevision }] : [];
  }

  /** Nothing is told to the cloud once one of the two is silent. */
  #sidesHold({ from, to }: MoveFacts): Compare[] {
    return [from, to].flatMap((side: MoveSide) => (side.node === "" ? [] : stillThere(side)));
  }

  #job(list: "cloudSteps" | "undoSteps", held: readonly Compare[]): CloudJob {
    const record = async (step: JobStep) => {
      if (step.phase === "intent" && this.#context.recovering()) {
        throw new NotNow("nothing is changed: the store is recovering");
      }
      // What was done is noted whoever has fallen silent meanwhile.
      const conditions = step.phase === "intent" ? held : held.slice(0, 1);
      const saved = await this.log.save((intent) => ({ ...intent, [list]: withStep(intent[list], step) }), {
        if: conditions,
      });
      if (!saved) throw new NotNow(`${step.action} was not made: a node of the move has changed`);
    };
    const id = list === "cloudSteps" ? this.log.id : `${this.log.id}-undo`;
    return { id, steps: this.#intent[list], record };
  }

  #ended(done: boolean): Next {
    return done ? "ended" : "held";
  }
}

/** A request to the cloud was not made; the next look says what becomes of the move. */
class NotNow extends ConflictError {}

/** Whether asking again will not help. */
function isFinal(error: unknown): boolean {
  const mayPass = [UnavailableError, ThrottledError, AuthError, NotNow, LeadLostError].some(
    (kind) => error instanceof kind,
  );
  return error instanceof CocoonError && !mayPass;
}

function stopOf(text: string): Stop {
  const end = text.indexOf(": ");
  return [text.slice(0, end) as EventReason, text.slice(end + 2)];
}
