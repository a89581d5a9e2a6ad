import { pause } from "./backoff.ts";
import { UnavailableError } from "./errors.ts";
import type { ClusterConfig } from "./model.ts";
import type { Incarnation, Recovery } from "./recovery.ts";
import type { CallOptions } from "./store.ts";

export interface RecoveryWaitOptions extends CallOptions {
  /** Called once, when the store is recovering and the node has to wait for its subnet. */
  readonly onWait?: ((message: string) => void) | undefined;
  /** How long to wait for a store that is recovering; default four times the cluster's `recoveryMs`. */
  readonly maxWaitMs?: number | undefined;
}

/** Waiting for the store to recover has taken too long. */
export class RecoveringError extends UnavailableError {}

/**
 * Waits until new subnets are given out again in the store that is called `label`.
 * @param monotonic milliseconds that only grow
 * @throws {RecoveringError}
 */
export async function untilRecovered(
  recovery: Recovery,
  label: string,
  { recoveryMs, clusterUID }: ClusterConfig,
  { since }: Incarnation,
  monotonic: () => number,
  options: RecoveryWaitOptions,
): Promise<void> {
  const { signal, timeoutMs, onWait, maxWaitMs = recoveryMs * 4 } = options;
  const message = `${label} may have lost writes (${since}): new nodes wait until those that live have said again what they own`;
  onWait?.(`${message}, about ${Math.ceil(recoveryMs / 1_000)} s`);
  const end = monotonic() + maxWaitMs;
  let failure: unknown;
  while (monotonic() < end) {
    await pause(Math.min(1_000, recoveryMs / 10), signal);
    try {
      const { incarnation } = await recovery.look([], { signal, timeoutMs, clusterUID });
      if (!incarnation.recovering) return;
      failure = undefined;
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      failure = error;
    }
  }
  throw new RecoveringError(`${message}; that has not ended in ${Math.round(maxWaitMs / 1_000)} s`, {
    outcome: "none",
    cause: failure,
    hint: "try again; `cocoon-net cluster events` shows when the store began to recover",
  });
}
