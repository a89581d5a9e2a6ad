import type { Rates } from "../cloud/least.ts";

/** How much of everything. Times in milliseconds. */
export interface ControllerSizes {
  readonly nodes: number;
  readonly leasesPerNode: number;
  /** Numbers of nodes that are lost at once, one after another. Each has its instance at the cloud. */
  readonly losses: readonly number[];
  readonly enisPerNode: number;
  readonly addressesPerEni: number;
  /** Client processes that hold what lives on. */
  readonly processes: number;
  readonly sessionTtlMs: number;
  readonly leaderTtlMs: number;
  readonly suspectAfterMs: number;
  readonly reclaimAfterMs: number;
  readonly confirmAfterMs: number;
  readonly quarantineMs: number;
  /** How long an idle leader is looked at. */
  readonly idleMs: number;
  /** Of the budget; the account lets larger bursts through. */
  readonly rates: Rates;
  readonly delays: { readonly detachMs: number; readonly deleteEniMs: number };
}

/** What docs/performance.md is made of; about seven minutes a store. The rates are five times those of bench:cloud. */
export const fullSizes: ControllerSizes = {
  nodes: 5_000,
  leasesPerNode: 140,
  losses: [1, 10, 100],
  enisPerNode: 7,
  addressesPerEni: 20,
  processes: 3,
  sessionTtlMs: 30_000,
  leaderTtlMs: 15_000,
  suspectAfterMs: 5_000,
  reclaimAfterMs: 10_000,
  confirmAfterMs: 2_000,
  quarantineMs: 5_000,
  idleMs: 20_000,
  rates: { read: { perSecond: 20, burst: 30 }, write: { perSecond: 10, burst: 10 } },
  delays: { detachMs: 4_000, deleteEniMs: 1_000 },
};

/** To see that it works, in a minute. Its times say little. */
export const quickSizes: ControllerSizes = {
  ...fullSizes,
  nodes: 200,
  losses: [1, 10, 20],
  enisPerNode: 2,
  processes: 1,
  sessionTtlMs: 3_000,
  leaderTtlMs: 3_000,
  suspectAfterMs: 500,
  reclaimAfterMs: 1_000,
  confirmAfterMs: 500,
  quarantineMs: 1_000,
  idleMs: 3_000,
  delays: { detachMs: 1_000, deleteEniMs: 500 },
};
