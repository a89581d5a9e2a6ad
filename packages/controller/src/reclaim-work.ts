import {
  type Cloud,
  type CloudJob,
  type Compare,
  ConflictError,
  decode,
  type Entry,
  encode,
  keys,
  type NodeRecord,
  nodeSchema,
  notPaused,
  type Operation,
  type SlotRecord,
  type Store,
} from "@cocoon-net/core";
import { LeadLostError } from "./fenced-writer.ts";
import type { IntentLog } from "./intent-log.ts";
import { cloudJob, type Next, type RunContext } from "./intent-run.ts";
import { listMoved, type MovedOfNode, movedOfNode } from "./moved-addresses.ts";
import { type Facts, readFacts, readSlots } from "./reclaim-facts.ts";
import type { ReclaimIntent } from "./reclaim-intent.ts";

export interface ReclaimContext extends RunContext {
  readonly store: Store;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly nodePrefix: number;
  readonly leaseMs: number;
  readonly quarantineMs: number;
  /** How long the node has been silent for certain. */
  readonly silentMs: () => number;
  /** Told when the quarantine is over, at each look; the block may have to wait for its moved addresses still. */
  readonly onRested: () => void;
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

/** One reclaim under way, with what each of its steps needs. */
export class ReclaimWork {
  readonly log: IntentLog<ReclaimIntent>;
  readonly context: ReclaimContext;
  /** When this process first knew of it. */
  readonly since: number;

  constructor(log: IntentLog<ReclaimIntent>, context: ReclaimContext) {
    this.log = log;
    this.context = context;
    this.since = context.clock.monotonic() - context.silentMs();
  }

  get intent(): ReclaimIntent {
    return this.log.intent;
  }

  get drained(): boolean {
    return this.intent.cause === "drained";
  }

  get forced(): boolean {
    return this.intent.cause === "operator-forced";
  }

  /** Nothing was taken from the node yet, at the cloud or on record. */
  get untouched(): boolean {
    return this.intent.cloudSteps.length === 0 && this.intent.disowned !== true;
  }

  /** Undefined when the intent is gone: an operator has ended it. */
  async look(): Promise<Facts | undefined> {
    const { store, signal } = this.context;
    const facts = await readFacts(store, this.log.id, this.intent, signal);
    if (facts) this.log.adopt(facts.intent, facts.revision);
    return facts;
  }

  slots(expected: (record: SlotRecord) => boolean): Promise<Entry[]> {
    const { store, nodePrefix, signal } = this.context;
    return readSlots(store, this.intent, nodePrefix, expected, signal);
  }

  async moved(): Promise<MovedOfNode> {
    const all = await listMoved(this.context.store, this.context.signal);
    return movedOfNode(all, this.intent, this.intent.subnet);
  }

  stillSilent(): readonly Compare[] {
    return this.drained ? [] : [{ key: keys.alive(this.intent.node), exists: false }];
  }

  /** A cloud job whose notes are in the intent; each is refused once `held` no longer holds. */
  job(held: Compare): CloudJob {
    return cloudJob(this.log, {
      held: [held],
      before: () => {
        const fencing = this.intent.step === "fencing";
        if (this.context.recovering()) throw new RefusedNote("nothing is changed: the store is recovering");
        if (this.context.paused()) throw new RefusedNote("nothing is changed: an operator has paused it");
        if (fencing && this.context.massSilence())
          throw new RefusedNote("nothing is changed: reclaim is paused");
        return [notPaused, ...(fencing && this.untouched ? this.stillSilent() : [])];
      },
      refused: () => new RefusedNote(`${this.intent.node} has come back, or everything was paused`),
    });
  }

  /** A last write that found something changed means: look again (G4). */
  ended(done: boolean): Next {
    return done ? "ended" : "held";
  }
}

/** A request to the cloud was not made, because the job may not go on now. */
class RefusedNote extends ConflictError {}

export function isOurs(error: unknown): boolean {
  return error instanceof RefusedNote || error instanceof LeadLostError;
}

/** Rewrites a node's record; fields that this version does not know stay. */
export function rewritten(entry: Entry, change: Partial<NodeRecord>): Operation {
  return { put: entry.key, value: encode({ ...decode(nodeSchema, entry), ...change }) };
}
