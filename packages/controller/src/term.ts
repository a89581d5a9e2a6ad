import {
  type ClusterConfig,
  decode,
  describeError,
  type InstanceState,
  type Leadership,
  Recovery,
  type Revision,
} from "@cocoon-net/core";
import { Breaker } from "./breaker.ts";
import { ClusterState } from "./cluster-state.ts";
import { Detection, type DetectionSettings, type NodeView, type Verdict } from "./detection.ts";
import { makeEvent } from "./durable-event.ts";
import { FencedWriter } from "./fenced-writer.ts";
import { incarnationOf, proveLeadership } from "./leader-proof.ts";
import { markReady, markSuspect, startReclaim, type TransitionContext, tell } from "./node-transitions.ts";
import type { ResolvedOptions } from "./options.ts";
import { Reclaim } from "./reclaim.ts";
import { type ReclaimIntent, reclaimIntentSchema } from "./reclaim-intent.ts";
import { ReclaimLog } from "./reclaim-log.ts";
import { TaskGroup } from "./task-group.ts";

/**
 * One term of leadership: loads the whole cluster, then looks it over at every tick and acts. Ends with
 * the leadership or the signal; whatever it started has stopped by then. @throws why it had to give the lead up.
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
  const term = new Term(options, writer, group);
  group.spawn(async (inner) => {
    // First, so that a loss is known before anything is decided from what is left.
    const incarnation = await incarnationOf(recovery, inner);
    group.spawn((proving) => proveLeadership(options, writer, recovery, incarnation, proving));
    group.spawn((running) => term.run(running));
  });
  await group.join();
}

class Term {
  readonly #options: ResolvedOptions;
  readonly #group: TaskGroup;
  readonly #context: TransitionContext;
  readonly #state: ClusterState;
  readonly #detection = new Detection();
  readonly #breaker = new Breaker();
  /** Intents that this term runs, or has run and not yet seen vanish. */
  readonly #reclaims = new Map<string, "running" | "ended">();
  readonly #orphans = new Map<string, number>();
  #recovering = false;

  constructor(options: ResolvedOptions, writer: FencedWriter, group: TaskGroup) {
    this.#options = options;
    this.#group = group;
    this.#context = { writer, clock: options.clock, signal: group.signal, onEvent: options.onEvent };
    this.#state = new ClusterState((error) => this.#problem(describeError(error)));
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#state.follow(this.#options.store, signal, () => {
      this.#group.spawn((inner) => this.#watch(inner));
    });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    for (;;) {
      const { config } = this.#state;
      if (config) await this.#look(config);
      await clock.wait(settings.tickMs, signal);
    }
  }

  async #look(config: ClusterConfig): Promise<void> {
    const { clock, settings } = this.#options;
    const now = clock.monotonic();
    const owners = [...this.#state.owners()];
    this.#noteRecovery();
    await this.#updateBreaker(owners, now);
    this.#resume(config);
    this.#reportOrphans(owners, now);
    const detection: DetectionSettings = {
      ...settings,
      reclaimAfterMs: settings.reclaimAfterMs ?? config.reclaimAfterMs,
      automatic: settings.policy === "instance-gone",
    };
    for (const verdict of this.#detection.decide(
      owners,
      detection,
      now,
      this.#breaker.open || this.#state.recovering,
    )) {
      await this.#act(verdict, config, detection);
    }
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
        const why = record.instanceID === undefined ? "has no instance id" : "is reclaimed by hand only";
        const message = `${node} ${why}; ${subnet} stays its own until an operator reclaims it`;
        await tell(this.#context, view.revision, "reclaim-manual", { node, subnet, message });
        return;
      }
      case "ask": {
        const { instanceID } = record;
        if (instanceID === undefined) return;
        this.#group.spawn((signal) => this.#ask(view, instanceID, platform, detection, signal));
        return;
      }
      case "reclaim": {
        const { instanceID } = record;
        if (instanceID === undefined) return;
        // Whatever comes of it, the next reclaim of this node needs two new looks.
        this.#detection.lookAgain(node, detection, this.#options.clock.monotonic());
        const started = await startReclaim(this.#context, view, instanceID, platform, verdict.state);
        if (started) this.#reclaim(started.id, started.intent, started.revision, config);
        return;
      }
    }
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
    if (!this.#detection.answered(view, state, detection, clock.monotonic())) return;
    const message = `${node} is silent, but ${instanceID} runs: ${subnet} stays its own`;
    await tell(this.#context, view.revision, "instance-running", { node, subnet, message });
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
    const nodes = owners.map(({ node, record: { status } }) => ({
      node,
      troubled: status === "suspect" || status === "fencing",
    }));
    if (!this.#breaker.update(nodes, this.#options.settings, now)) return;
    const { troubled, nodes: all } = this.#breaker.counts;
    const after = Math.max(0, ...owners.map((view) => view.revision));
    const [type, message] = this.#breaker.open
      ? (["reclaim-paused", `${troubled} of ${all} nodes fell silent: reclaim is paused`] as const)
      : (["reclaim-resumed", `${troubled} of ${all} nodes are silent: reclaim goes on`] as const);
    await tell(this.#context, after, type, { message });
  }

  /** Takes up what a former leader left, from the step it had come to. */
  #resume(config: ClusterConfig): void {
    for (const [id, stage] of this.#reclaims) {
      // One that runs may not have been seen yet.
      if (stage === "ended" && !this.#state.intents.has(id)) this.#reclaims.delete(id);
    }
    for (const [id, { value, entry }] of this.#state.intents) {
      if (value.kind !== "reclaim" || this.#reclaims.has(id)) continue;
      try {
        this.#reclaim(id, decode(reclaimIntentSchema, entry), entry.modRevision, config);
      } catch (error) {
        this.#reclaims.set(id, "ended");
        this.#problem(describeError(error));
      }
    }
  }

  #reclaim(id: string, intent: ReclaimIntent, revision: Revision, config: ClusterConfig): void {
    const { store, clock, cloudFor, settings } = this.#options;
    const log = new ReclaimLog(id, intent, revision, this.#context);
    const reclaim = new Reclaim(log, {
      store,
      clock,
      cloudFor,
      signal: this.#group.signal,
      nodePrefix: config.nodePrefix,
      quarantineMs: settings.quarantineMs ?? config.quarantineMs,
      retryFirstMs: settings.retryFirstMs,
      retryMaxMs: settings.retryMaxMs,
      tickMs: settings.tickMs,
      paused: () => this.#breaker.open,
      recovering: () => this.#state.recovering,
    });
    this.#reclaims.set(id, "running");
    this.#group.spawn(async () => {
      await reclaim.run();
      this.#reclaims.set(id, "ended");
    });
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

  #problem(message: string, node?: string): void {
    const about = node === undefined ? { message } : { node, message };
    this.#options.onEvent(makeEvent(this.#options.clock, "problem", about));
  }
}
