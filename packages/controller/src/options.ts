import { type Cloud, type CocoonError, InvalidError, type NodeRecord, type Store } from "@cocoon-net/core";
import { type Clock, systemClock } from "./clock.ts";
import type { ControllerEvent } from "./controller-event.ts";
import { Meters } from "./metrics.ts";

export interface ControllerOptions extends ControllerSettings {
  /** Stays the caller's: it is not disposed. */
  readonly store: Store;
  /**
   * The cloud of a platform. Called for each job: keep what was opened. It stays the caller's: it is not disposed.
   * A failure is reported and tried again.
   */
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  /** Who this is, for people: host name and pid, say. */
  readonly id: string;
  /** Default the system's. */
  readonly clock?: Clock | undefined;
  /** What this controller did or saw, as it happens. The store's event log has the durable part of it. */
  readonly onEvent?: ((event: ControllerEvent) => void) | undefined;
}

/**
 * What a silent node meets: `instance-gone` reclaims when the cloud says that the instance is stopped or gone; `fence`
 * also while the cloud says that it runs, since the fence ends what it could do; `manual` makes nodes suspect and does
 * nothing else.
 */
export type ReclaimPolicy = "instance-gone" | "fence" | "manual";

/** A node that has fallen silent, as the store has it. */
export interface SilentNode {
  readonly node: string;
  readonly record: NodeRecord;
}

/** All durations in milliseconds. */
export interface ControllerSettings {
  /**
   * Default `instance-gone`. A store that may lose acknowledged writes always gets `manual`. A function is asked again
   * and again while a node is silent, and must answer at once; when it throws, the node is left to the operator.
   */
  readonly policy?: ReclaimPolicy | ((node: SilentNode) => ReclaimPolicy) | undefined;
  /** How long after this leader's death the next one may have to wait. Default 15,000. */
  readonly leaderTtlMs?: number | undefined;
  /** How long a node's session must be seen gone before the node is suspect. Default 5,000. */
  readonly suspectAfterMs?: number | undefined;
  /** The same for a node that has registered, and of which nothing shows that its agent ran. Default 600,000. */
  readonly firstHeardWithinMs?: number | undefined;
  /** How long a node must be silent before the cloud is asked. Default: the cluster's config. */
  readonly reclaimAfterMs?: number | undefined;
  /** How long a fenced block stays in quarantine. Default: the cluster's config. */
  readonly quarantineMs?: number | undefined;
  /** Between the two looks at the cloud that must agree that an instance is gone (G8). Default 10,000. */
  readonly confirmAfterMs?: number | undefined;
  /** First and longest pause between tries of what failed. Defaults 1,000 and 60,000. */
  readonly retryFirstMs?: number | undefined;
  readonly retryMaxMs?: number | undefined;
  /**
   * How often, at least, the cluster is looked over, also when nothing has happened and nothing is due; jobs that are
   * held look as often whether they may go on. Default 2,000.
   */
  readonly tickMs?: number | undefined;
  /** How often the leader proves that it can list and write. Default 5,000. */
  readonly proveEveryMs?: number | undefined;
  /** Without such a proof for this long it gives the lead up. Default 20,000. */
  readonly resignAfterMs?: number | undefined;
  /** How often the leader holds store and cloud against each other; 0 is never. Default 600,000. */
  readonly checkEveryMs?: number | undefined;
  /** How many NICs of reclaimed nodes are kept with their addresses for the next ones, in all. Default 0. */
  readonly keepWarm?: number | undefined;
  /** How long agents may take to agree to a move. Default 30,000. */
  readonly prepareMoveMs?: number | undefined;
  /** The event log keeps so many events, default 10,000, for so long, default 30 days. */
  readonly keepEvents?: number | undefined;
  readonly keepEventsMs?: number | undefined;
  /** Mass silence (G13): share of the nodes, least count, and the window in which they fell silent. */
  readonly breakerShare?: number | undefined;
  readonly breakerNodes?: number | undefined;
  readonly breakerWindowMs?: number | undefined;
}

/** Settings with every default filled in; what is `undefined` comes from the cluster's config. */
export interface ResolvedSettings {
  readonly policy: (node: SilentNode) => ReclaimPolicy;
  readonly leaderTtlMs: number;
  readonly suspectAfterMs: number;
  readonly firstHeardWithinMs: number;
  readonly reclaimAfterMs: number | undefined;
  readonly quarantineMs: number | undefined;
  readonly confirmAfterMs: number;
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
  readonly tickMs: number;
  readonly proveEveryMs: number;
  readonly resignAfterMs: number;
  readonly checkEveryMs: number;
  readonly keepWarm: number;
  readonly prepareMoveMs: number;
  readonly keepEvents: number;
  readonly keepEventsMs: number;
  readonly breakerShare: number;
  readonly breakerNodes: number;
  readonly breakerWindowMs: number;
}

export interface ResolvedOptions {
  readonly meters: Meters;
  readonly store: Store;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly id: string;
  readonly clock: Clock;
  readonly onEvent: (event: ControllerEvent) => void;
  readonly settings: ResolvedSettings;
}

/** @throws {InvalidError} for a setting that is not a number of its range. */
export function resolveOptions(options: ControllerOptions): ResolvedOptions {
  const policy = options.store.capabilities.trustworthy ? (options.policy ?? "instance-gone") : "manual";
  const settings: ResolvedSettings = {
    policy: typeof policy === "function" ? policy : () => policy,
    leaderTtlMs: options.leaderTtlMs ?? 15_000,
    suspectAfterMs: options.suspectAfterMs ?? 5_000,
    firstHeardWithinMs: options.firstHeardWithinMs ?? 600_000,
    reclaimAfterMs: options.reclaimAfterMs,
    quarantineMs: options.quarantineMs,
    confirmAfterMs: options.confirmAfterMs ?? 10_000,
    retryFirstMs: options.retryFirstMs ?? 1_000,
    retryMaxMs: options.retryMaxMs ?? 60_000,
    tickMs: options.tickMs ?? 2_000,
    proveEveryMs: options.proveEveryMs ?? 5_000,
    resignAfterMs: options.resignAfterMs ?? 20_000,
    checkEveryMs: options.checkEveryMs ?? 600_000,
    keepWarm: options.keepWarm ?? 0,
    prepareMoveMs: options.prepareMoveMs ?? 30_000,
    keepEvents: options.keepEvents ?? 10_000,
    keepEventsMs: options.keepEventsMs ?? 30 * 86_400_000,
    breakerShare: options.breakerShare ?? 0.2,
    breakerNodes: options.breakerNodes ?? 3,
    breakerWindowMs: options.breakerWindowMs ?? 300_000,
  };
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value === "number" && !(Number.isFinite(value) && value >= 0)) throw unusable(name, value);
  }
  for (const name of ["leaderTtlMs", "retryFirstMs", "tickMs", "proveEveryMs", "resignAfterMs"] as const) {
    if (settings[name] === 0) throw unusable(name, 0);
  }
  return {
    store: options.store,
    cloudFor: options.cloudFor,
    meters: new Meters(),
    id: options.id,
    clock: options.clock ?? systemClock,
    onEvent: options.onEvent ?? (() => {}),
    settings,
  };
}

function unusable(name: string, value: number): CocoonError {
  return new InvalidError(`controller: ${name} cannot be ${value}`, { hint: "give a positive number" });
}
