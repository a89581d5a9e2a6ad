import { sendToUnixSocket } from "./libc.ts";

export interface ServiceEnvironment {
  readonly NOTIFY_SOCKET?: string | undefined;
  readonly WATCHDOG_USEC?: string | undefined;
  readonly WATCHDOG_PID?: string | undefined;
}

/**
 * Tells systemd how the service is: `READY=1`, `STOPPING=1`, `STATUS=…`, one a line. See sd_notify(3). Does nothing where
 * systemd has not asked for it.
 *
 * @throws {SystemCallError} when its socket does not take it
 */
export function notifyServiceManager(state: string, env: ServiceEnvironment = process.env): void {
  if (env.NOTIFY_SOCKET) sendToUnixSocket(env.NOTIFY_SOCKET, Buffer.from(state));
}

/** How often systemd wants a sign of life, milliseconds: sd_watchdog_enabled(3). Undefined when it wants none. */
export function watchdogMs(
  env: ServiceEnvironment = process.env,
  pid: number = process.pid,
): number | undefined {
  if (env.WATCHDOG_PID !== undefined && Number(env.WATCHDOG_PID) !== pid) return undefined;
  const microseconds = Number(env.WATCHDOG_USEC);
  return microseconds > 0 ? microseconds / 1_000 : undefined;
}
