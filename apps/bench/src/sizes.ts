/** How much of everything. Times in milliseconds. */
export interface Sizes {
  /** Client processes. */
  readonly processes: number;
  /** Nodes that register at the same moment. */
  readonly registrations: number;
  /**
   * Nodes that register beforehand in each process, elsewhere. In a cluster each node has a machine of its own; here a
   * few processes stand for all of them, and should not be busy compiling. After 50 they still are: a request of either
   * client then costs 0.45 ms of processor, later 0.2 ms.
   */
  readonly warmUps: number;
  /** The range of the registrations, cut into /24s. */
  readonly parentCIDR: string;
  /** Share of the slots that are taken in the second registration figure. */
  readonly takenShare: number;
  /** Nodes that have leases. */
  readonly nodes: number;
  readonly leasesPerNode: number;
  /** Idle agents, each with a connection and a watch. */
  readonly agents: number;
  /** How long leases are renewed beside them. */
  readonly watchMs: number;
  readonly sessions: number;
  readonly sessionTtlMs: number;
  /** How long heartbeats are looked at: whole periods of both sides, a half and a third of the TTL. */
  readonly heartbeatMs: number;
  readonly pausedMs: number;
  readonly downMs: number;
  readonly blackholeMs: number;
  /** How long a recovery is waited for, after each outage. */
  readonly settleMs: number;
}

/** What docs/performance.md is made of; about eight minutes. */
export const fullSizes: Sizes = {
  processes: 4,
  registrations: 1_000,
  warmUps: 250,
  parentCIDR: "10.64.0.0/11",
  takenShare: 0.85,
  nodes: 5_000,
  leasesPerNode: 140,
  agents: 500,
  watchMs: 8_000,
  sessions: 5_000,
  sessionTtlMs: 30_000,
  heartbeatMs: 30_000,
  pausedMs: 3_000,
  downMs: 2_000,
  blackholeMs: 10_000,
  settleMs: 8_000,
};

/** To see that it works, in less than a minute. Its times say little. */
export const quickSizes: Sizes = {
  ...fullSizes,
  registrations: 100,
  warmUps: 50,
  parentCIDR: "10.64.0.0/14",
  nodes: 200,
  agents: 40,
  watchMs: 1_000,
  sessions: 200,
  sessionTtlMs: 3_000,
  heartbeatMs: 3_000,
  pausedMs: 500,
  downMs: 500,
  blackholeMs: 1_000,
  settleMs: 1_500,
};
