import { Backoff, type InstanceState, type NodeRecord, type Revision } from "@cocoon-net/core";
import type { ReclaimPolicy } from "./options.ts";

/** A node that owns a subnet, as the store shows it. */
export interface NodeView {
  readonly node: string;
  readonly record: NodeRecord;
  /** Of `nodes/{node}`. */
  readonly revision: Revision;
  /** Of `subnets/{node}`. */
  readonly epoch: Revision;
  readonly subnet: string;
  readonly alive: boolean;
}

export type Verdict =
  | { readonly type: "suspect" | "returned" | "ask" | "manual"; readonly view: NodeView }
  | {
      readonly type: "reclaim";
      readonly view: NodeView;
      readonly policy: ReclaimPolicy;
      readonly state: InstanceState;
    };

export interface DetectionSettings {
  readonly suspectAfterMs: number;
  /** The same for a node of which nothing shows that it has ever been alive with this subnet. */
  readonly firstHeardWithinMs: number;
  readonly reclaimAfterMs: number;
  readonly confirmAfterMs: number;
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
  /** What a silent node meets. */
  readonly policyOf: (view: NodeView) => ReclaimPolicy;
}

interface Silence {
  readonly epoch: Revision;
  readonly since: number;
  readonly pauses: Backoff;
  askAt: number;
  asking: boolean;
  looks: number;
  state: InstanceState;
  told: Set<"manual" | "running">;
}

/**
 * What this leader has seen of the nodes' silence. Pure: the time comes in, in monotonic milliseconds, and what to
 * do goes out. Nothing is taken from times in the store, so clock skew never makes a node look dead, and a new
 * leader counts every silence anew, which is late at worst.
 */
export class Detection {
  readonly #silences = new Map<string, Silence>();
  /** The epoch in which a node was seen alive last. */
  readonly #heard = new Map<string, Revision>();
  #dueAt = Number.POSITIVE_INFINITY;

  /** When the passing of time alone gives the next thing to do, as of the last look. */
  get dueAt(): number {
    return this.#dueAt;
  }

  /** Looks at every owner; `paused` stops whatever leads to a reclaim (G13). */
  decide(views: Iterable<NodeView>, settings: DetectionSettings, now: number, paused: boolean): Verdict[] {
    const verdicts: Verdict[] = [];
    const owners = new Set<string>();
    this.#dueAt = Number.POSITIVE_INFINITY;
    for (const view of views) {
      owners.add(view.node);
      const verdict = this.#decide(view, settings, now, paused);
      if (verdict) verdicts.push(verdict);
    }
    for (const node of this.#silences.keys()) if (!owners.has(node)) this.#silences.delete(node);
    for (const node of this.#heard.keys()) if (!owners.has(node)) this.#heard.delete(node);
    return verdicts;
  }

  /**
   * The cloud's answer to an `ask`; a failed call is `unknown`. True the first time that a silent node turns out
   * to be running.
   */
  answered(view: NodeView, state: InstanceState, settings: DetectionSettings, now: number): boolean {
    const silence = this.#silences.get(view.node);
    if (silence?.epoch !== view.epoch) return false;
    silence.asking = false;
    silence.state = state;
    const policy = settings.policyOf(view);
    if (state === "gone" || state === "stopped" || (policy === "fence" && state === "running")) {
      silence.looks += 1;
      silence.askAt = now + settings.confirmAfterMs;
      return false;
    }
    // G8: the two looks must follow each other; ignorance in between is not agreement.
    silence.looks = 0;
    silence.askAt = now + silence.pauses.next();
    const news = state === "running" && !silence.told.has("running");
    if (news) silence.told.add("running");
    return news;
  }

  /** A reclaim could not begin or was called off: the cloud must be seen to agree twice again. */
  lookAgain(node: string, settings: DetectionSettings, now: number): void {
    const silence = this.#silences.get(node);
    if (!silence) return;
    silence.looks = 0;
    silence.askAt = now + settings.confirmAfterMs;
  }

  /** For how long this leader has seen the node silent. */
  silentMs(node: string, epoch: Revision, now: number): number {
    const silence = this.#silences.get(node);
    return silence?.epoch === epoch ? now - silence.since : 0;
  }

  #decide(view: NodeView, settings: DetectionSettings, now: number, paused: boolean): Verdict | undefined {
    const { status, instanceID, pool, maxLeaseEnd, runningSince } = view.record;
    if (view.alive) {
      this.#silences.delete(view.node);
      this.#heard.set(view.node, view.epoch);
      return status === "suspect" ? { type: "returned", view } : undefined;
    }
    const silence = this.#silence(view, settings, now);
    const { since } = silence;
    if (status === "ready") {
      // `init` registers a node well before its agent runs. One that has had leases has run, whatever it says.
      const granted = runningSince !== undefined || maxLeaseEnd !== undefined || (pool?.leased ?? 0) > 0;
      const begun = granted || this.#heard.get(view.node) === view.epoch;
      const graceMs = begun ? 0 : settings.firstHeardWithinMs;
      const suspectAt = since + Math.max(graceMs, settings.suspectAfterMs);
      return this.#isDue(suspectAt, now) ? { type: "suspect", view } : undefined;
    }
    if (status !== "suspect" && status !== "draining") return undefined;
    if (!this.#isDue(since + settings.reclaimAfterMs, now)) return undefined;
    const policy = settings.policyOf(view);
    if (instanceID === undefined || policy === "manual") {
      if (silence.told.has("manual")) return undefined;
      silence.told.add("manual");
      return { type: "manual", view };
    }
    if (paused) {
      silence.looks = 0;
      return undefined;
    }
    // G8: two looks, a pause apart.
    if (silence.looks >= 2) return { type: "reclaim", view, policy, state: silence.state };
    if (silence.asking || !this.#isDue(silence.askAt, now)) return undefined;
    silence.asking = true;
    return { type: "ask", view };
  }

  #isDue(at: number, now: number): boolean {
    if (now >= at) return true;
    this.#dueAt = Math.min(this.#dueAt, at);
    return false;
  }

  #silence(view: NodeView, settings: DetectionSettings, now: number): Silence {
    const known = this.#silences.get(view.node);
    if (known?.epoch === view.epoch) return known;
    const silence: Silence = {
      epoch: view.epoch,
      since: now,
      pauses: new Backoff({ firstMs: settings.retryFirstMs, maxMs: settings.retryMaxMs }),
      askAt: now,
      asking: false,
      looks: 0,
      state: "unknown",
      told: new Set(),
    };
    this.#silences.set(view.node, silence);
    return silence;
  }
}
