import { type Logger, pino } from "pino";
import { UsageError, usage } from "./failure.ts";
import { checkLevel } from "./log-level.ts";
import { loggedError, redactor } from "./redaction.ts";

export type { Logger } from "pino";

/**
 * Logs on stderr: lines for people on a terminal, else one JSON object a line; COCOON_NET_LOG_FORMAT forces either.
 * What the environment and the store's URL keep secret does not appear.
 * @throws {UsageError} for an unknown level or COCOON_NET_LOG_FORMAT
 */
export function createLogger(env: NodeJS.ProcessEnv, store?: string, asked?: string): Logger {
  const level = asked || env.COCOON_NET_LOG_LEVEL || "info";
  usage(() => checkLevel(level));
  const format = env.COCOON_NET_LOG_FORMAT || (process.stderr.isTTY ? "pretty" : "json");
  if (format !== "json" && format !== "pretty") {
    throw new UsageError(`COCOON_NET_LOG_FORMAT "${format}" is neither json nor pretty`);
  }
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: loggedError },
  };
  const redact = redactor(env, store);
  const stderr = pino.destination({ dest: 2, sync: true });
  const write = (line: string): void => {
    const safe = redact(line);
    stderr.write(format === "pretty" ? prettyLine(safe) : safe);
  };
  return pino(options, { write });
}

/** `10:00:00.000 WARN  what happened  name=value …`; a stack follows on lines of its own. */
export function prettyLine(json: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const shown = Object.entries({ ...fields, ...errorField(err) }).map(
    ([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  const head = `${String(time).slice(11, 23)} ${String(level).toUpperCase().padEnd(5)} ${String(msg ?? "")}`;
  return `${[head, ...shown].join("  ")}\n`;
}

function errorField(err: unknown): object {
  if (typeof err !== "object" || err === null || !("message" in err)) return {};
  return { error: err.message };
}
