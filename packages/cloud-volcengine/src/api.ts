import {
  type CallPurpose,
  type CallRate,
  type CloudBudget,
  type CloudCall,
  type CocoonError,
  type Gate,
  Pauses,
  type RawAnswer,
  ThrottledError,
  UnavailableError,
  unreachable,
} from "@cocoon-net/core";
import { type FailureKind, type ReadAnswer, readAnswer } from "./api-errors.ts";
import { type ChangeKind, type ChangeTimes, ChangeWait } from "./change-wait.ts";
import type { CredentialSource, Credentials } from "./credentials.ts";
import { loadSigner, type Parameters, sign, subjectOf } from "./signing.ts";
import type { Timing } from "./timing.ts";
import { type Json, readPage } from "./wire.ts";

/**
 * When a request may be sent again without a look. `always`: reads, and what comes to the same however often it is
 * done. `refused`: only when it was certainly not done; its ClientToken is a second safeguard. `never`: what takes no
 * ClientToken.
 */
const actions = {
  AssignPrivateIpAddresses: { service: "vpc", again: "refused" },
  AttachNetworkInterface: { service: "vpc", again: "never" },
  CreateNetworkInterface: { service: "vpc", again: "refused" },
  CreateSubnet: { service: "vpc", again: "refused" },
  DeleteNetworkInterface: { service: "vpc", again: "never" },
  DescribeInstances: { service: "ecs", again: "always" },
  DescribeInstanceTypes: { service: "ecs", again: "always" },
  DescribeNetworkInterfaces: { service: "vpc", again: "always" },
  DescribeSecurityGroups: { service: "vpc", again: "always" },
  DescribeSubnets: { service: "vpc", again: "always" },
  DetachNetworkInterface: { service: "vpc", again: "never" },
  TagResources: { service: "vpc", again: "always" },
  UnassignPrivateIpAddresses: { service: "vpc", again: "always" },
} as const;

export type Action = keyof typeof actions;
export type ListAction = Extract<Action, `Describe${string}`>;

/**
 * The vendor publishes no rates. These are below the ones that its own tools keep to (reads 4/s in bursts of 7, writes
 * 2/s in bursts of 3) by one request: requests do not arrive as evenly as they are sent.
 */
const rates: Readonly<Record<"read" | "write", CallRate>> = {
  read: { perSecond: 4, burst: 6 },
  write: { perSecond: 2, burst: 2 },
};

export interface VolcengineApiOptions {
  readonly endpoint: string;
  readonly credentials: CredentialSource;
  readonly timing: Timing;
  readonly budget: CloudBudget;
  readonly changeTimes: ChangeTimes;
  readonly onCall: ((call: CloudCall) => void) | undefined;
}

export interface RequestScope {
  readonly purpose: CallPurpose;
  readonly signal: AbortSignal | undefined;
}

/** Signed calls to vpc and ecs on behalf of one operation. Every refusal becomes one of core's errors. */
export class Requests {
  readonly timing: Timing;
  readonly signal: AbortSignal | undefined;
  readonly #options: VolcengineApiOptions;
  readonly #purpose: CallPurpose;
  readonly #since = performance.now();
  #waitedMs = 0;

  constructor(options: VolcengineApiOptions, scope: RequestScope) {
    this.timing = options.timing;
    this.signal = scope.signal;
    this.#options = options;
    this.#purpose = scope.purpose;
  }

  async region(): Promise<string> {
    return (await this.#options.credentials.current()).region;
  }

  /** Pauses between looks or tries. What was waited for the budget does not count towards their end. */
  pauses(totalMs: number): Pauses {
    const { firstPauseMs: firstMs, maxPauseMs: maxMs } = this.timing;
    return new Pauses({ firstMs, maxMs, totalMs, signal: this.signal, now: () => this.#now() });
  }

  /** Pauses until changes that were asked for are to be expected. */
  changes(kind: ChangeKind): ChangeWait {
    const { timing, signal } = this;
    const { changeTimes: times } = this.#options;
    return new ChangeWait({ kind, times, timing, signal, now: () => this.#now() });
  }

  /** While a subnet is made, the VPC is Pending, and refuses other subnets and new addresses. */
  async gate(vpcID: string): Promise<Gate> {
    const { account, region } = await this.#options.credentials.current();
    return this.#options.budget.gate(`volcengine ${account} ${region} ${vpcID}`);
  }

  /**
   * Calls an action and gives its `Result`. Tries again on throttling, and while something is in the middle of a change
   * or after an outage where that cannot do something twice; with new credentials once, where they can be renewed.
   */
  async call(action: Action, parameters: Parameters): Promise<unknown> {
    const outage = this.pauses(this.timing.retryMs);
    const busy = this.pauses(this.timing.busyMs);
    let throttled = 0;
    let renewed = false;
    for (;;) {
      const answer = await this.#once(action, parameters);
      if ("result" in answer) return answer.result;
      const { error, kind } = answer;
      if (kind === "expired" && !renewed) {
        renewed = true;
        if (this.#options.credentials.renew(answer.used)) continue;
      }
      if (kind === "throttled" && ++throttled < this.timing.throttledTries) continue;
      const pauses = kind === "busy" ? busy : outage;
      if (!(error instanceof UnavailableError && mayRepeat(action, error) && (await pauses.next())))
        throw error;
    }
  }

  /** Asks; where the answer does not say whether it was done, looks before it asks again. */
  async askOrFind<T>(ask: () => Promise<T>, find: () => Promise<T | undefined>): Promise<T> {
    let pauses: Pauses | undefined;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof UnavailableError && error.outcome === "unknown")) throw error;
        pauses ??= this.pauses(this.timing.retryMs);
        if (!(await pauses.next())) throw error;
        const found = await find();
        if (found !== undefined) return found;
      }
    }
  }

  /** All items of a list, over all pages. Complete or an error, never a part (G8). */
  async list<T>(
    action: ListAction,
    parameters: Parameters,
    key: string,
    read: (record: Json) => T,
  ): Promise<T[]> {
    const items: T[] = [];
    const tokens = new Set<string>();
    for (let token = ""; ; ) {
      const page = { MaxResults: 100, NextToken: token || undefined };
      const result = readPage(await this.call(action, { ...parameters, ...page }), key);
      items.push(...result.items.map(read));
      token = result.nextToken;
      if (token === "") return items;
      if (tokens.has(token)) {
        throw new UnavailableError(`${action} repeats its pages without an end`, { outcome: "none" });
      }
      tokens.add(token);
    }
  }

  async #once(action: Action, parameters: Parameters): Promise<Answer> {
    const { credentials: source, budget, onCall } = this.#options;
    const { account, region } = await source.current();
    const kind = action.startsWith("Describe") ? "read" : "write";
    // It takes a while: before the wait, so that what follows it goes out at once.
    loadSigner();
    const bucket = budget.bucket({ platform: "volcengine", account, region, class: kind }, rates[kind]);
    const { signal, timing } = this;
    const take = { signal, withinMs: timing.budgetMs, since: this.#since };
    const waitedMs = await bucket.take(this.#purpose, take);
    this.#waitedMs += waitedMs;
    // Signed after the wait: a signature carries its time, and the credentials may have been renewed.
    const credentials = await source.current();
    const startedAt = performance.now();
    const answer = await this.#send(action, parameters, credentials);
    const result = resultOf(answer);
    if ("error" in answer && answer.error instanceof ThrottledError) {
      bucket.throttled(answer.error.retryAfterMs);
    } else if (result !== "unknown") bucket.succeeded();
    const tookMs = performance.now() - startedAt;
    onCall?.({ platform: "volcengine", action, result, tookMs, waitedMs });
    return "error" in answer ? { ...answer, used: credentials } : answer;
  }

  /** @throws the signal's reason */
  async #send(action: Action, parameters: Parameters, credentials: Credentials): Promise<ReadAnswer> {
    const { endpoint } = this.#options;
    const { signal, timing } = this;
    const { service } = actions[action];
    const { query, headers } = sign(service, action, parameters, credentials);
    const subject = subjectOf(parameters);
    const what = subject === undefined ? action : `${action} ${subject}`;
    const timeout = AbortSignal.timeout(timing.requestMs);
    const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    let raw: RawAnswer;
    try {
      // A redirect would carry a signature that is no longer right.
      const response = await fetch(`${endpoint}/?${query}`, { headers, signal: both, redirect: "error" });
      const body = await response.text();
      raw = { status: response.status, body, retryAfter: response.headers.get("retry-after") };
    } catch (cause) {
      signal?.throwIfAborted();
      const afterMs = timeout.aborted ? timing.requestMs : undefined;
      const request = { what, endpoint, setting: "COCOON_NET_VOLCENGINE_ENDPOINT", afterMs };
      return { error: unreachable(request, cause), kind: "unanswered" };
    }
    return readAnswer({ what, permission: `${service}:${action}` }, raw);
  }

  #now(): number {
    return performance.now() - this.#waitedMs;
  }
}

function mayRepeat(action: Action, { outcome }: UnavailableError): boolean {
  const { again } = actions[action];
  return again === "always" || (again === "refused" && outcome === "none");
}

type Answer =
  | { readonly result: unknown }
  | { readonly error: CocoonError; readonly kind: FailureKind; readonly used: Credentials };

function resultOf(answer: ReadAnswer): CloudCall["result"] {
  if ("result" in answer) return "ok";
  const { kind } = answer;
  if (kind === "throttled") return "throttled";
  return kind === "unanswered" || kind === "unknown" ? "unknown" : "refused";
}
