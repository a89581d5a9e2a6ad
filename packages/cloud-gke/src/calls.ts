import {
  type CallPurpose,
  type CallRate,
  type CloudBudget,
  type CloudCall,
  CocoonError,
  Pauses,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import type { AccessTokens } from "./access-tokens.ts";
import { TokenError } from "./api-errors.ts";
import { callApi, type GceClients, vendorClients } from "./sdk.ts";
import { retryPauses, type Timing } from "./timing.ts";

/**
 * Below the least that the vendor has ever published for a region (1,500 a minute). Quotas are counted per project,
 * region and minute: https://cloud.google.com/compute/docs/api-rate-limits. Waits for operations are reads; where a
 * project still has a quota of its own for them, writes keep them below it.
 */
const rates = {
  read: { perSecond: 20, burst: 60, perMinute: 1_000 },
  write: { perSecond: 10, burst: 20, perMinute: 500 },
} as const satisfies Readonly<Record<string, CallRate>>;

export interface GceCallsOptions {
  readonly endpoint: URL;
  readonly tokens: AccessTokens;
  readonly timing: Timing;
  readonly budget: CloudBudget;
  readonly onCall: ((call: CloudCall) => void) | undefined;
}

/** On whose behalf calls are made. */
export interface CallScope {
  readonly signal: AbortSignal | undefined;
  /** The queue of the budget that they wait in, and when what they are for began. */
  readonly purpose: CallPurpose;
  readonly since: number;
}

export interface Call {
  /** As in the reference: `instances.get`. */
  readonly action: string;
  /** What of, for messages. */
  readonly subject: string;
  /** Whose quota it counts against. */
  readonly project: string;
  readonly region: string;
  /** Changes something: after a failure the caller looks before it asks again. */
  readonly changes?: boolean;
  readonly timeoutMs?: number;
  /** Fields of the body that are to be sent as empty lists. */
  readonly emptyLists?: readonly string[];
}

/** Makes calls: within the budget, with a token, counted, and again where that is right. */
export class GceCalls {
  readonly timing: Timing;
  readonly #options: GceCallsOptions;

  constructor(options: GceCallsOptions) {
    this.timing = options.timing;
    this.#options = options;
  }

  /**
   * Tries again, for {@link Timing.retryMs} altogether, on throttling, and after an outage where nothing is changed.
   * Waiting for the budget does not count.
   */
  async make<T>(call: Call, scope: CallScope, run: (clients: GceClients) => Promise<T>): Promise<T> {
    const { retryMs } = this.timing;
    let waitedMs = 0;
    const pauses = new Pauses({
      ...retryPauses(this.timing, retryMs, scope.signal),
      now: () => performance.now() - waitedMs,
    });
    let refusedSince: number | undefined;
    let renewed = false;
    for (;;) {
      try {
        return await this.#try(call, scope, run, (ms) => {
          waitedMs += ms;
        });
      } catch (error) {
        if (error instanceof TokenError && !renewed) {
          renewed = true;
          continue;
        }
        if (error instanceof ThrottledError && !(error instanceof BudgetError)) {
          // The bucket makes it wait.
          refusedSince ??= performance.now();
          if (performance.now() - refusedSince < retryMs) continue;
        }
        const again = error instanceof UnavailableError && !call.changes && (await pauses.next());
        if (!again) throw error;
      }
    }
  }

  async #try<T>(
    call: Call,
    scope: CallScope,
    run: (clients: GceClients) => Promise<T>,
    onWaited: (ms: number) => void,
  ): Promise<T> {
    const { tokens, endpoint, budget, timing } = this.#options;
    const { signal, purpose, since } = scope;
    const { action, project: account, region, timeoutMs = timing.requestMs, emptyLists = [] } = call;
    const kind = call.changes ? "write" : "read";
    const bucket = budget.bucket({ platform: "gke", account, region, class: kind }, rates[kind]);
    // Not while a request is timed.
    await vendorClients();
    const waitedMs = await bucket
      .take(purpose, { signal, withinMs: timing.budgetMs, since })
      .catch((cause: unknown) => {
        throw cause instanceof ThrottledError ? new BudgetError(cause.message, { cause }) : cause;
      });
    onWaited(waitedMs);
    const authorization = await tokens.header(endpoint.origin, signal);
    const startedAt = performance.now();
    const report = (result: CloudCall["result"]): void => {
      const tookMs = performance.now() - startedAt;
      this.#options.onCall?.({ platform: "gke", action, result, tookMs, waitedMs });
    };
    const what = `${action} ${call.subject}`;
    const context = { endpoint: endpoint.origin, what, authorization, timeoutMs, signal, emptyLists };
    try {
      const answer = await callApi(context, run);
      bucket.succeeded();
      report("ok");
      return answer;
    } catch (error) {
      if (error instanceof TokenError) tokens.forget();
      const result = resultOf(error);
      if (error instanceof ThrottledError) bucket.throttled(error.retryAfterMs);
      if (result === "refused") bucket.succeeded();
      report(result);
      throw error;
    }
  }
}

/** The budget of this process allows no request in time: the cloud has not been asked. */
class BudgetError extends ThrottledError {}

function resultOf(error: unknown): CloudCall["result"] {
  if (error instanceof ThrottledError) return "throttled";
  if (error instanceof UnavailableError) return error.outcome === "none" ? "refused" : "unknown";
  return error instanceof CocoonError ? "refused" : "unknown";
}
