import {
  AuthError,
  Backoff,
  type CloudCall,
  CocoonError,
  ConflictError,
  campaign,
  describeError,
  InvalidError,
  type Leadership,
} from "@cocoon-net/core";
import type { ControllerEvent, ControllerEventType } from "./controller-event.ts";
import { makeEvent } from "./durable-event.ts";
import { EventStream } from "./event-stream.ts";
import type { ControllerMetrics } from "./metrics.ts";
import { type ControllerOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { leadTerm } from "./term.ts";

export interface RunOptions {
  /** Ends the run: the lead is given up and `run` resolves. */
  readonly signal?: AbortSignal | undefined;
}

export interface Controller extends AsyncDisposable {
  /** Whether this one leads now. */
  readonly leading: boolean;
  /** What it knows, as plain numbers. Cheap enough to be asked every second. */
  metrics(): ControllerMetrics;
  /** Counts a request to a cloud: pass it as `onCall` to the driver that opens it. */
  readonly countCloudCall: (call: CloudCall) => void;
  /** What this one tells from now on, also through `onEvent`. Ends when it is disposed, or the signal aborts. */
  events(options?: RunOptions): AsyncIterable<ControllerEvent>;
  /**
   * Campaigns, leads while it can, and campaigns again, until the signal aborts or the controller is disposed.
   * @throws {ConflictError} when it runs already; what retrying cannot mend, such as {@link AuthError}.
   */
  run(options?: RunOptions): Promise<void>;
}

/** Any number may run over one store; one leads. @throws {InvalidError} for unusable settings. */
export function createController(options: ControllerOptions): Controller {
  return new ElectedController(resolveOptions(options));
}

class ElectedController implements Controller {
  readonly #options: ResolvedOptions;
  readonly #stop = new AbortController();
  readonly #events = new EventStream();
  #run: Promise<void> | undefined;
  #leading = false;
  #reported = "";

  constructor(options: ResolvedOptions) {
    const { onEvent } = options;
    this.#options = {
      ...options,
      onEvent: (event) => {
        onEvent(event);
        if (event.type === "repaired") options.meters.countRepair();
        this.#events.push(event);
      },
    };
  }

  get leading(): boolean {
    return this.#leading;
  }

  metrics(): ControllerMetrics {
    return this.#options.meters.snapshot();
  }

  readonly countCloudCall = (call: CloudCall): void => this.#options.meters.countCall(call);

  events(options: RunOptions = {}): AsyncIterable<ControllerEvent> {
    return this.#events.read(options.signal);
  }

  async run(options: RunOptions = {}): Promise<void> {
    if (this.#run !== undefined) throw new ConflictError(`controller ${this.#options.id} runs already`);
    const signal = options.signal ? AbortSignal.any([options.signal, this.#stop.signal]) : this.#stop.signal;
    this.#run = this.#untilAborted(signal);
    try {
      await this.#run;
    } finally {
      this.#run = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#run?.catch(() => undefined);
    this.#events.close();
  }

  async #untilAborted(signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    const pauses = new Backoff({ firstMs: settings.retryFirstMs, maxMs: settings.leaderTtlMs * 2 });
    try {
      while (!signal.aborted) {
        const startedAt = clock.monotonic();
        await this.#campaignAndLead(signal);
        if (clock.monotonic() - startedAt > settings.resignAfterMs * 2) pauses.reset();
        // Gives another candidate, who may be better off, the chance.
        await clock.wait(pauses.next(), signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #campaignAndLead(signal: AbortSignal): Promise<void> {
    try {
      await this.#lead(await this.#campaign(signal), signal);
    } catch (error) {
      if (isFatal(error)) throw error;
      this.#problem(error);
    }
  }

  #campaign(signal: AbortSignal): Promise<Leadership> {
    const { store, id, settings, clock } = this.#options;
    return campaign(store, {
      id,
      ttlMs: settings.leaderTtlMs,
      signal,
      onProblem: (error) => this.#problem(error),
      wait: (ms, until) => clock.wait(ms, until ?? signal),
    });
  }

  async #lead(leadership: Leadership, signal: AbortSignal): Promise<void> {
    const { id } = this.#options;
    let reason = "it was told to stop";
    this.#leading = true;
    this.#reported = "";
    this.#tell("leader-elected", `${id} leads`);
    try {
      await leadTerm(this.#options, leadership, signal);
      if (!signal.aborted) reason = "its session with the store has ended";
    } catch (error) {
      if (isFatal(error)) throw error;
      reason = describeError(error);
    } finally {
      this.#leading = false;
      await leadership[Symbol.asyncDispose]();
      this.#tell("leader-lost", `${id} no longer leads: ${reason}`);
    }
  }

  /** Once per change, not once per try. */
  #problem(error: unknown): void {
    const message = describeError(error);
    if (message !== this.#reported) this.#tell("problem", message);
    this.#reported = message;
  }

  #tell(type: ControllerEventType, message: string): void {
    this.#options.onEvent(makeEvent(this.#options.clock, { type, message }));
  }
}

/** A mistake of ours, or credentials that are refused: trying again would hide it. A full store is neither. */
function isFatal(error: unknown): boolean {
  return !(error instanceof CocoonError) || error instanceof AuthError || error instanceof InvalidError;
}
