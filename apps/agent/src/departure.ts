import { describeError, InvalidError, type WatchDepartureOptions } from "@cocoon-net/core";
import { type DriverPlaces, departureWatch } from "./drivers.ts";
import type { Logger } from "./log.ts";

export interface DepartureOptions {
  readonly platform: string;
  readonly drivers: DriverPlaces | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Called with why the machine is about to end, or undefined when it is not; at once, then after each change. */
  readonly tell: (why: string | undefined) => Promise<void>;
  readonly log: Logger;
}

/** Follows what the cloud announces about this machine, where it announces anything. */
export function followDeparture(options: DepartureOptions): AsyncDisposable {
  const { platform, drivers, env, tell, log } = options;
  const stop = new AbortController();
  const following = (async () => {
    const watch = await departureWatch(platform, drivers);
    const from: WatchDepartureOptions = { env, signal: stop.signal };
    for await (const why of watch?.(from) ?? []) {
      if (why !== undefined) log.warn(why);
      await tell(why);
    }
  })().catch((error: unknown) => {
    if (stop.signal.aborted) return;
    // A node that was adopted may be on a platform without a driver.
    const level = error instanceof InvalidError ? "debug" : "warn";
    log[level]({ err: error }, `notices about this machine cannot be followed: ${describeError(error)}`);
  });
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await following;
    },
  };
}
