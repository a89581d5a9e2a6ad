import { InvalidError } from "@cocoon-net/core";
import { type Logger, pino } from "pino";

export type { Logger } from "pino";

/** JSON lines on stderr. @throws {InvalidError} for an unknown level in COCOON_NET_LOG_LEVEL. */
export function createLogger(env: NodeJS.ProcessEnv): Logger {
  const level = env.COCOON_NET_LOG_LEVEL || "info";
  if (!(level in pino.levels.values) && level !== "silent") {
    const known = [...Object.keys(pino.levels.values), "silent"].join(", ");
    throw new InvalidError(`COCOON_NET_LOG_LEVEL "${level}" is not a level; choose one of ${known}`);
  }
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(options, pino.destination({ dest: 2, sync: true }));
}
