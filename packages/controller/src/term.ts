import {
  type ClusterConfig,
  describeError,
  type InstanceState,
  inParallel,
  type Leadership,
  type NodeStatus,
  Recovery,
} from "@cocoon-net/core";
import { Alarm } from "./alarm.ts";
import { Breaker } from "./breaker.ts";
import { ClusterState } from "./cluster-state.ts";
import { Detection, type DetectionSettings, type NodeView, type Verdict } from "./detection.ts";
import { drainState } from "./drain.ts";
import { makeEvent, type Told } from "./durable-event.ts";
import { trimEvents } from "./event-trim.ts";
import { FencedWriter, LeadLostError } from "./fenced-writer.ts";
import { Jobs } from "./jobs.ts";
import { incarnationOf, proveLeadership } from "./leader-proof.ts";
import type { TermMetrics } from "./metrics.ts";
import { markReady, markSuspect, startReclaim, type TransitionContext, tell } from "./node-transitions.ts";
import type { ReclaimPolicy, ResolvedOptions } from "./options.ts";
import type { ReclaimCause } from "./reclaim-intent.ts";
import { Returns, startReturn } from "./returns.ts";
import { slotUse } from "./slot-use.ts";
import { StandingCheck } from "./standing-check.ts";
import { TaskGroup } from "./task-group.ts";
import { WatchLag } from "./watch-lag.ts";

/**
 * One term of leadership: loads the whole cluster, then looks it over and acts, whenever something happens or is due.
 * Ends with the leadership or the signal; whatever it started has stopped by then. @throws why it had to give the lead
 * up.
 */
export async function leadTerm(
  options: ResolvedOptions,
  leadership: Leadership,
  signal: AbortSignal,
): Promise<void> {
  const group = new TaskGroup(AbortSignal.any([signal, leadership.signal]));
  const { store, clock } = options;
  const writer = new FencedWriter(store, leadership.fence, clock);
  const recovery = new Recovery(store, { now: () => clock.now(), monotonic: () => clock.monotonic() });
  const lag = new WatchLag(clock, (ms) => options.meters.noteLag(ms));
  const term = new Term(options, writer, lag, group);
  group.spawn(async (inner) => {
    // First, so that a loss is known before anything is decided from what is left.
    const incarnation = await incarnationOf(recovery, inner);
    const held = () => term.held;
    group.spawn((proving) => proveLeadership(options, writer, recovery, incarnation, lag, held, proving));
    group.spawn((running) => term.run(running));
    group.spawn((trimming) => trimEvents({ ...options, writer, everyMs: trimEveryMs }, trimming));
  });
  try {
    await group.join();
  } finally {
    options.meters.term = undefined;
  }
}

const trimEveryMs = 600_000;
/** How often it is looked whether a draining node has leases left. */
const drainLookMs = 5_000;
/** How often it is looked whether moved addresses have guests left. */
const returnLookMs = 10_000;

class Term {
  readonly #options: ResolvedOptions;
  readonly #group: TaskGroup;
  readonly #context: TransitionContext;
  readonly #state: ClusterState;
  readonly #alarm: Alarm;
  readonly #detection = new Detection();
  readonly #breaker = new Breaker();
  readonly #jobs: Jobs;
  readonly #check: StandingCheck;
  readonly #orphans = new Map<string, number>();
  /** By node: when to look again at one that is draining, and what was told of it last. */
  readonly #draining = new Map<string, { lookAt: number; told: string }>();
  readonly #returns = new Returns();
  #returnsAt = 0;
  #recovering = false;
  #loaded = false;

  constructor(options: ResolvedOptions, writer: FencedWriter, lag: WatchLag, group: TaskGroup) {
    this.#options = options;
    this.#group = group;
    this.#context = { writer, clock: options.clock, signal: group.signal, onEvent: options.onEvent };
    const alarm = new Alarm(options.clock);
    this.#alarm = alarm;
    this.#state = new ClusterState({
      problem: (error) => this.#problem(describeError(error)),
      proof: (revision) => lag.seen(revision),
      news: () => alarm.ring(),
    });
    this.#check = new StandingCheck(options, this.#context, this.#state);
    this.#jobs = new Jobs({
      ...this.#context,
      options,
      group,
      alarm,
      state: this.#state,
      massSilence: () => this.#breaker.open,
      silentMs: (node, epoch) => this.#detection.silentMs(node, epoch, options.clock.monotonic()),
      onProblem: (message) => this.#problem(message),
    });
  }

  /** Why nothing is taken from silent nodes now, for people. */
  get held(): string | undefined {
    if (!this.#loaded) return "not all of the cluster has been read yet";
    if (this.#state.recovering) return "the store may have lost writes, and recovers";
    if (this.#state.paused) return "an operator has paused it";
    const { troubled, nodes } = this.#breaker.counts;
    // G13
    return this.#breaker.open ? `${troubled} of ${nodes} nodes are silent` : undefined;
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#state.follow(this.#options.store, signal, () => {
      this.#loaded = true;
      this.#options.meters.term = () => this.#metrics();
      this.#group.spawn((inner) => this.#watch(inner));
      this.#group.spawn((inner) => this.#check.run(inner));
    });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    for (;;) {
      const { rings } = this.#alarm;
      const { config } = this.#state;
      if (config) await this.#look(config);
      const dueMs = this.#detection.dueAt - clock.monotonic();
      await this.#alarm.sleep(Math.min(dueMs, settings.tickMs), rings, signal);
    }
  }

  async #look(config: ClusterConfig): Promise<void> {
    const { clock, settings } = this.#options;
    const now = clock.monotonic();
    const owners = [...this.#state.owners()];
    this.#noteRecovery();
    await this.#updateBreaker(owners, now);
    this.#jobs.resume(config);
    this.#reportOrphans(owners, now);
    const detection: DetectionSettings = {
      ...settings,
      reclaimAfterMs: settings.reclaimAfterMs ?? config.reclaimAfterMs,
      policyOf: (view) => this.#policyOf(view),
    };
    const verdicts = this.#detection.decide(owners, detection, now, this.held !== undefined);
    await inParallel(verdicts, (verdict) => this.#act(verdict, config, detection));
    if (this.#state.recovering) return;
    if (!this.#state.paused) await this.#drain(owners, config, now);
    this.#sendHome(owners, config, now);
  }

  async #act(verdict: Verdict, config: ClusterConfig, detection: DetectionSettings): Promise<void> {
    const { view } = verdict;
    const { node, subnet, record } = view;
    const platform = record.platform ?? config.platform;
    switch (verdict.type) {
      case "suspect":
        await markSuspect(this.#context, view);
        return;
      case "returned":
        await markReady(this.#context, view);
        return;
      case "manual": {
        const nameless = record.instanceID === undefined;
        const why = nameless ? "has no instance id" : "is reclaimed by hand only";
        const message = `${node} ${why}; ${subnet} stays its own until an operator reclaims it`;
        await this.#tell(view, {
          type: "reclaim-manual",
          reason: nameless ? "no-instance-id" : "policy-manual",
          message,
        });
        return;
      }
      case "ask": {
        const { instanceID } = record;
        if (instanceID === undefined) return;
        this.#group.spawn((signal) => this.#ask(view, instanceID, platform, detection, signal));
        return;
      }
      case "reclaim": {
        // Whatever comes of it, the next reclaim of this node needs two new looks.
        this.#detection.lookAgain(node, detection, this.#options.clock.monotonic());
        const { policy, state } = verdict;
        const cause = policy === "fence" ? "fence-policy" : "instance-gone";
        const reason = state === "gone" || state === "stopped" ? (`instance-${state}` as const) : cause;
        await this.#start(view, config, cause, reason);
        return;
      }
    }
  }

  async #start(
    view: NodeView,
    config: ClusterConfig,
    cause: ReclaimCause,
    reason: NonNullable<Told["reason"]>,
  ): Promise<void> {
    const platform = view.record.platform ?? config.platform;
    const started = await startReclaim(this.#context, view, { cause, platform, reason });
    if (started) this.#jobs.reclaim(started.id, started.intent, started.revision, config);
  }

  async #ask(
    view: NodeView,
    instanceID: string,
    platform: string,
    detection: DetectionSettings,
    signal: AbortSignal,
  ): Promise<void> {
    const { cloudFor, clock } = this.#options;
    const { node, subnet } = view;
    let state: InstanceState = "unknown";
    try {
      const cloud = await cloudFor(platform);
      state = await cloud.describeInstance(instanceID, { signal });
    } catch (error) {
      signal.throwIfAborted();
      this.#problem(`asking ${platform} about ${instanceID}: ${describeError(error)}`, node);
    }
    const news = this.#detection.answered(view, state, detection, clock.monotonic());
    this.#alarm.ring();
    if (!news) return;
    const message = `${node} is silent, but ${instanceID} runs: ${subnet} stays its own`;
    await this.#tell(view, { type: "instance-running", reason: "instance-running", message });
  }

  /** Takes the blocks of nodes that are to leave, once nobody uses them any more. */
  async #drain(owners: readonly NodeView[], config: ClusterConfig, now: number): Promise<void> {
    const draining = owners.filter(({ alive, record }) => alive && record.status === "draining");
    const names = new Set(draining.map(({ node }) => node));
    for (const node of this.#draining.keys()) if (!names.has(node)) this.#draining.delete(node);
    for (const view of draining) {
      const known = this.#draining.get(view.node) ?? { lookAt: 0, told: "" };
      this.#draining.set(view.node, known);
      if (now < known.lookAt) continue;
      known.lookAt = Number.POSITIVE_INFINITY;
      this.#group.spawn(async (signal) => {
        try {
          const state = await drainState(this.#options.store, view, signal);
          if (state === "drained") await this.#start(view, config, "drained", "drained");
          else if (state.reason !== known.told) {
            known.told = state.reason ?? "";
            await this.#tell(view, state);
          }
        } catch (error) {
          signal.throwIfAborted();
          if (error instanceof LeadLostError) throw error;
          this.#problem(describeError(error), view.node);
        }
        known.lookAt = this.#options.clock.monotonic() + drainLookMs;
      });
    }
  }

  /** Addresses that were moved go home when their guests are gone. */
  #sendHome(owners: readonly NodeView[], config: ClusterConfig, now: number): void {
    const { store, clock } = this.#options;
    if (now < this.#returnsAt || this.#state.moved.size === 0) return;
    this.#returnsAt = Number.POSITIVE_INFINITY;
    this.#group.spawn(async (signal) => {
      try {
        const all = [...this.#state.moved].map(([ip, { value, entry }]) => ({
          ip,
          record: value,
          revision: entry.modRevision,
        }));
        for (const moved of await this.#returns.look(store, all, signal)) {
          const { node, uid, subnet } = moved.record;
          // Its reclaim deletes the lease while its block is in quarantine; the address rests as long. No longer: the
          // block may wait for an address that waits for this one's.
          if (this.#jobs.isResting(node)) continue;
          const home = owners.find((owner) => owner.subnet === subnet);
          const server = owners.find((owner) => owner.node === node && owner.record.uid === uid);
          if ((home && !home.alive) || (server && !server.alive)) continue;
          const platform = (home ?? server)?.record.platform ?? config.platform;
          const started = await startReturn(this.#context, moved, home, platform);
          if (started) this.#jobs.move(started.id, started.intent, started.revision, config);
        }
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LeadLostError) throw error;
        this.#problem(describeError(error));
      }
      this.#returnsAt = clock.monotonic() + returnLookMs;
    });
  }

  /** G8: a rule that fails is no ground to take anything. */
  #policyOf({ node, record }: NodeView): ReclaimPolicy {
    try {
      return this.#options.settings.policy({ node, record });
    } catch (error) {
      this.#problem(`the reclaim policy failed: ${describeError(error)}`, node);
      return "manual";
    }
  }

  #noteRecovery(): void {
    const { recovering } = this.#state;
    if (recovering === this.#recovering) return;
    this.#recovering = recovering;
    this.#problem(
      recovering
        ? "the store may have lost writes: nothing is reclaimed until its nodes have said again what they own"
        : "the store has recovered: reclaim goes on",
    );
  }

  async #updateBreaker(owners: readonly NodeView[], now: number): Promise<void> {
    const nodes = owners.map(({ node, alive, record: { status } }) => ({
      node,
      // One that speaks is not silent, although what was begun with its block goes on.
      troubled: !alive && (status === "suspect" || status === "fencing"),
    }));
    if (!this.#breaker.update(nodes, this.#options.settings, now)) return;
    this.#alarm.ring();
    const { troubled, nodes: all } = this.#breaker.counts;
    const after = Math.max(0, ...owners.map((view) => view.revision));
    const [type, message] = this.#breaker.open
      ? (["reclaim-paused", `${troubled} of ${all} nodes fell silent: reclaim is paused`] as const)
      : (["reclaim-resumed", `${troubled} of ${all} nodes are silent: reclaim goes on`] as const);
    await tell(this.#context, after, { type, reason: "mass-silence", message });
  }

  /** What comes and goes with an intent, but has none, is reported and left alone (G8). */
  #reportOrphans(owners: readonly NodeView[], now: number): void {
    const blocks = new Set(this.#state.quarantine.keys());
    for (const { subnet, record } of owners) if (record.status === "fencing") blocks.add(subnet);
    for (const { value } of this.#state.intents.values()) blocks.delete(value.subnet ?? "");
    for (const cidr of this.#orphans.keys()) if (!blocks.has(cidr)) this.#orphans.delete(cidr);
    for (const cidr of blocks) {
      const since = this.#orphans.get(cidr) ?? now;
      this.#orphans.set(cidr, since);
      // The watches may be a moment apart.
      if (now - since < 10_000) continue;
      this.#orphans.set(cidr, Number.POSITIVE_INFINITY);
      this.#problem(`${cidr} is being reclaimed without an intent; it stays so until an operator looks`);
    }
  }

  #metrics(): TermMetrics {
    const now = this.#options.clock.monotonic();
    const nodes: Partial<Record<NodeStatus, number>> = {};
    const owners = [...this.#state.owners()];
    for (const { record } of owners) nodes[record.status] = (nodes[record.status] ?? 0) + 1;
    const intents = new Map<string, { kind: string; step: string; count: number; oldestSeconds: number }>();
    for (const [id, { value }] of this.#state.intents) {
      const step = value.step ?? "unknown";
      const row = intents.get(`${value.kind} ${step}`) ?? {
        kind: value.kind,
        step,
        count: 0,
        oldestSeconds: 0,
      };
      const seconds = (now - this.#jobs.seenAt(id, now)) / 1_000;
      intents.set(`${value.kind} ${step}`, {
        ...row,
        count: row.count + 1,
        oldestSeconds: Math.max(row.oldestSeconds, seconds),
      });
    }
    return {
      nodes,
      slots: slotUse(this.#state.config, owners, this.#state.quarantine.keys()),
      intents: [...intents.values()],
      movedAddresses: this.#state.moved.size,
      findings: this.#check.counts,
      breakerOpen: this.#breaker.open,
      paused: this.#state.paused,
      recovering: this.#state.recovering,
    };
  }

  async #tell({ node, subnet, revision }: NodeView, told: Told): Promise<void> {
    await tell(this.#context, revision, told, { node, subnet });
  }

  #problem(message: string, node?: string): void {
    const about = node === undefined ? {} : { node };
    this.#options.onEvent(makeEvent(this.#options.clock, { type: "problem", message }, about));
  }
}
