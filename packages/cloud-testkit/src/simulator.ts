import { type CallCounts, CallLog } from "./call-log.ts";
import type { FaultRule, Faults, HeldRequest } from "./faults.ts";
import { type HttpHandler, HttpListener, type ListenAddress } from "./http-listener.ts";
import type { Timeline } from "./timeline.ts";

export interface Listening {
  /** `http://127.0.0.1:43210`, with the real port. */
  readonly api: string | undefined;
  readonly metadata: string | undefined;
}

/** Options that every simulator has. */
export interface CommonOptions {
  /** Of what happens by chance: faults with a probability, the jitter of delays. Default 1. */
  readonly seed?: number;
  /** Each delay is lengthened or shortened by up to this part of it. Default 0. */
  readonly jitter?: number;
}

/** What all simulators have: counts, faults, listeners, endpoints. */
export abstract class CloudSimulator<State, Change> implements AsyncDisposable {
  protected readonly callLog: CallLog = new CallLog();
  readonly #timeline: Timeline<Change>;
  readonly #faults: Faults;
  readonly #endpoints: HttpListener[] = [];

  protected constructor(timeline: Timeline<Change>, faults: Faults) {
    this.#timeline = timeline;
    this.#faults = faults;
  }

  /** Everything as it truly is, whatever the API shows. */
  abstract describeState(): State;

  /** Requests so far by action, refused ones and those under way included. */
  get calls(): Readonly<Record<string, number>> {
    return this.callLog.byAction;
  }

  /** Requests that have ended, by action and result: `ok`, the vendor's code, an HTTP status, `lost`, `hang`. */
  get callResults(): CallCounts {
    return this.callLog.byResult;
  }

  /** Calls `listener` synchronously after each change; the returned function ends that. */
  onChange(listener: (change: Change) => void): () => void {
    return this.#timeline.onChange(listener);
  }

  /** @throws {InvalidError} when the rule could never hit */
  injectFault(rule: FaultRule): void {
    this.#faults.add(rule);
  }

  /** Stops at the n-th request from now, from 0, that changes something: before it is applied, or after. */
  hold(n: number, when: "before" | "after"): HeldRequest {
    return this.#faults.hold(n, when);
  }

  /** Rules that can still hit. */
  get faults(): readonly FaultRule[] {
    return this.#faults.rules;
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** Closes the endpoints and drops changes under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timeline.close();
    await Promise.all(this.#endpoints.splice(0).map((endpoint) => endpoint[Symbol.asyncDispose]()));
  }

  /** Opens an endpoint; returns its URL. */
  protected async open(address: ListenAddress, handler: HttpHandler): Promise<string> {
    const endpoint = await HttpListener.open(address, handler);
    this.#endpoints.push(endpoint);
    return endpoint.url;
  }
}
