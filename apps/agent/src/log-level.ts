import { InvalidError } from "@cocoon-net/core";

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** @throws {InvalidError} */
export function checkLevel(level: string): void {
  if (logLevels.some((known) => known === level)) return;
  throw new InvalidError(`log level "${level}" is not a level; choose one of ${logLevels.join(", ")}`);
}
