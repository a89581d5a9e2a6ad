import { type ClusterConfig, decode, describeError, type Entry, type Revision } from "@cocoon-net/core";
import type { Alarm } from "./alarm.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { IntentBase } from "./intent.ts";
import { IntentLog, type IntentLogOptions } from "./intent-log.ts";
import { type RunnableJob, runJob } from "./intent-run.ts";
import { Move } from "./move.ts";
import { type MoveIntent, moveIntentSchema } from "./move-intent.ts";
import type { ResolvedOptions } from "./options.ts";
import { Reclaim } from "./reclaim.ts";
import { isAskedFor, type ReclaimIntent, reclaimIntentSchema } from "./reclaim-intent.ts";
import { Repair } from "./repair.ts";
import { type RepairIntent, repairIntentSchema } from "./repair-intent.ts";
import type { TaskGroup } from "./task-group.ts";
import { clusterTags, placeOf, warmRoom } from "./warm-nics.ts";

export interface JobsContext extends IntentLogOptions {
  readonly options: ResolvedOptions;
  readonly group: TaskGroup;
  readonly alarm: Alarm;
  readonly state: ClusterState;
  readonly massSilence: () => boolean;
  /** How long a node has been silent for certain. */
  readonly silentMs: (node: string, epoch: Revision) => number;
  readonly onProblem: (message: string) => void;
}

/** The intents that this term runs: its own, those of operators, and what a former leader left. */
export class Jobs {
  readonly #context: JobsContext;
  /** Intents that this term runs, or has run and not yet seen vanish. */
  readonly #known = new Map<string, "running" | "ended">();
  /** When this term took each up, in monotonic milliseconds. */
  readonly #seenAt = new Map<string, number>();
  /** Reclaims whose quarantine this term has waited for in full. */
  readonly #rested = new Set<string>();

  constructor(context: JobsContext) {
    this.#context = context;
  }

  /** Takes up what the store has and this term does not run yet, from the step it has come to. */
  resume(config: ClusterConfig): void {
    const { intents } = this.#context.state;
    for (const [id, stage] of this.#known) {
      // One that runs may not have been seen yet.
      if (stage !== "ended" || intents.has(id)) continue;
      this.#known.delete(id);
      this.#seenAt.delete(id);
      this.#rested.delete(id);
    }
    for (const [id, { value, entry }] of intents) {
      if (this.#known.has(id)) continue;
      try {
        this.#start(id, value.kind, entry, config);
      } catch (error) {
        this.#known.set(id, "ended");
        this.#context.onProblem(describeError(error));
      }
    }
  }

  /** When this term took the job up; `now` for one that it has not. */
  seenAt(id: string, now: number): number {
    return this.#seenAt.get(id) ?? now;
  }

  /** Whether what the node had is being taken from it, or has not been in quarantine for long enough yet. */
  isResting(node: string): boolean {
    for (const [id, { value }] of this.#context.state.intents) {
      if (value.kind === "reclaim" && value.node === node && !this.#rested.has(id)) return true;
    }
    return false;
  }

  reclaim(id: string, intent: ReclaimIntent, revision: Revision, config: ClusterConfig): void {
    const { options, group, state, massSilence, silentMs } = this.#context;
    const { store, clock, cloudFor, settings } = options;
    const log = this.#log(id, intent, revision, ({ node, subnet }) => ({ node, subnet }));
    const job = new Reclaim(log, {
      store,
      clock,
      cloudFor,
      signal: group.signal,
      nodePrefix: config.nodePrefix,
      leaseMs: config.leaseMs,
      quarantineMs: settings.quarantineMs ?? config.quarantineMs,
      silentMs: () => silentMs(intent.node, intent.epoch),
      retryFirstMs: settings.retryFirstMs,
      retryMaxMs: settings.retryMaxMs,
      onRested: () => this.#rested.add(id),
      onFreed: (ms) => options.meters.countReclaim(ms / 1_000),
      stepOf: (other) => state.intents.get(other)?.value.step,
      keepWarm: async () => {
        const { keepWarm } = settings;
        const place = placeOf(state.owners());
        if (keepWarm === 0 || !place) return 0;
        return warmRoom(await cloudFor(intent.platform), config, place, keepWarm, group.signal);
      },
      // An operator may have asked for it since.
      massSilence: () => !isAskedFor(log.intent) && massSilence(),
      paused: () => state.paused,
      recovering: () => state.recovering,
    });
    this.#run(id, job);
  }

  move(id: string, intent: MoveIntent, revision: Revision, config: ClusterConfig): void {
    const { options, group, state } = this.#context;
    const { store, clock, cloudFor, settings } = options;
    const log = this.#log(id, intent, revision, ({ ip, vmID, from }) => ({
      ip,
      node: from,
      ...(vmID === undefined ? {} : { vmID }),
    }));
    const job = new Move(log, {
      ...settings,
      store,
      clock,
      cloudFor,
      signal: group.signal,
      tags: clusterTags(config),
      prepareMs: settings.prepareMoveMs,
      recovering: () => state.recovering,
    });
    this.#run(id, job);
  }

  #repair(id: string, intent: RepairIntent, revision: Revision, config: ClusterConfig): void {
    const { options, group, state } = this.#context;
    const { store, clock, cloudFor, settings } = options;
    const log = this.#log(id, intent, revision, () => ({}));
    const job = new Repair(log, {
      ...settings,
      ...config,
      store,
      clock,
      cloudFor,
      signal: group.signal,
      paused: () => state.paused,
      recovering: () => state.recovering,
    });
    this.#run(id, job);
  }

  #start(id: string, kind: string, entry: Entry, config: ClusterConfig): void {
    if (kind === "reclaim") {
      this.reclaim(id, decode(reclaimIntentSchema, entry), entry.modRevision, config);
    } else if (kind === "move") {
      this.move(id, decode(moveIntentSchema, entry), entry.modRevision, config);
    } else if (kind === "repair") {
      this.#repair(id, decode(repairIntentSchema, entry), entry.modRevision, config);
    }
  }

  #log<T extends IntentBase>(
    id: string,
    intent: T,
    revision: Revision,
    about: ConstructorParameters<typeof IntentLog<T>>[3],
  ): IntentLog<T> {
    return new IntentLog(id, intent, revision, about, this.#context);
  }

  #run<T extends IntentBase>(id: string, job: RunnableJob<T>): void {
    const { options, group, alarm } = this.#context;
    this.#known.set(id, "running");
    this.#seenAt.set(id, options.clock.monotonic());
    group.spawn(async (signal) => {
      await runJob(job, { ...options.settings, clock: options.clock, alarm, signal });
      this.#known.set(id, "ended");
    });
  }
}
