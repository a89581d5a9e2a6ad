import { repeatTogether } from "@cocoon-net/core";
import { notifyServiceManager, watchdogMs } from "@cocoon-net/host-linux";
import type { Logger } from "./log.ts";

/**
 * Tells the service manager that the daemon serves, that it lives, and, when disposed, that it stops. The signs of life
 * come from the loop that serves the guests: when it is stuck they end.
 */
export function reportService(env: NodeJS.ProcessEnv, log: Logger): Disposable {
  let silent = false;
  const notify = (state: string): void => {
    try {
      notifyServiceManager(state, env);
    } catch (error) {
      if (!silent) log.warn({ err: error }, "the service manager cannot be told");
      silent = true;
    }
  };
  const every = watchdogMs(env);
  const end =
    every === undefined ? undefined : repeatTogether(every / 2, every / 20, () => notify("WATCHDOG=1"));
  notify("READY=1");
  return {
    [Symbol.dispose]() {
      end?.();
      notify("STOPPING=1");
    },
  };
}
