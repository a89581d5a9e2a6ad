import { describeError, UnavailableError } from "@cocoon-net/core";
import { checkCluster } from "./check.ts";
import type { ClusterState } from "./cluster-state.ts";
import { LeadLostError } from "./fenced-writer.ts";
import { type Finding, identity, isSameFinding } from "./finding.ts";
import { type TransitionContext, tell } from "./node-transitions.ts";
import type { ResolvedOptions } from "./options.ts";

/** Subnets whose leases one round looks at; the others have their turn later. */
const sampleSize = 50;

/**
 * The leader's own check of the cluster, again and again: everything but the leases each time, and those in turn. It
 * tells what two rounds in a row agree on, once, and changes nothing (G8).
 */
export class StandingCheck {
  readonly #options: ResolvedOptions;
  readonly #context: TransitionContext;
  readonly #state: ClusterState;
  #before: readonly Finding[] = [];
  #told = new Set<string>();
  #turn = 0;

  constructor(options: ResolvedOptions, context: TransitionContext, state: ClusterState) {
    this.#options = options;
    this.#context = context;
    this.#state = state;
  }

  get counts(): { readonly repairable: number; readonly others: number } {
    const repairable = this.#before.filter(({ repair }) => repair !== undefined).length;
    return { repairable, others: this.#before.length - repairable };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    if (settings.checkEveryMs === 0) return;
    for (;;) {
      await clock.wait(settings.checkEveryMs, signal);
      if (this.#state.recovering) continue;
      try {
        await this.#round(signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LeadLostError) throw error;
        // Whether the store can be reached is for the leader's proof to say.
        if (error instanceof UnavailableError) continue;
        const message = `the standing check failed: ${describeError(error)}`;
        this.#context.onEvent({ time: clock.now().toISOString(), type: "problem", message });
      }
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { store, cloudFor, clock } = this.#options;
    const subnets = [...this.#state.owners()].map(({ subnet }) => subnet);
    const start = subnets.length === 0 ? 0 : (this.#turn * sampleSize) % subnets.length;
    const sample = subnets.slice(start, start + sampleSize);
    const first = await checkCluster({ store, cloudFor, signal, sample, now: () => clock.now() });
    const agreed = first.findings.filter((finding) =>
      this.#before.some((old) => isSameFinding(old, finding)),
    );
    // The same sample again, where something is to be agreed on.
    if (first.findings.length === agreed.length) this.#turn += 1;
    this.#before = first.findings;
    const present = new Set(first.findings.map(identity));
    this.#told = new Set([...this.#told].filter((known) => present.has(known)));
    for (const finding of agreed) {
      if (this.#told.has(identity(finding))) continue;
      this.#told.add(identity(finding));
      const { node, subnet, ip, code, guarantee, message } = finding;
      await tell(
        this.#context,
        Math.max(0, ...[...this.#state.owners()].map(({ revision }) => revision)),
        { type: "check-finding", message: `${code} (${guarantee}): ${message}` },
        {
          ...(node === undefined ? {} : { node }),
          ...(subnet === undefined ? {} : { subnet }),
          ...(ip === undefined ? {} : { ip }),
        },
      );
    }
  }
}
