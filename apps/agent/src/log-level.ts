import { InvalidError } from "@cocoon-net/core";

const levels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** @throws {InvalidError} */
export function checkLevel(level: string): void {
  if (levels.some((known) => known === level)) return;
  throw new InvalidError(`log level "${level}" is not a level; choose one of ${levels.join(", ")}`);
}
