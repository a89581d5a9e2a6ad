import { CocoonError, describeError, InvalidError, UnknownParameterError } from "@cocoon-net/core";
import { CommanderError } from "commander";

/** The command line is wrong in itself, whatever the machine, the store and the cloud are like. */
export class UsageError extends InvalidError {}

/** What `parse` finds wrong with the command line. @throws {UsageError} */
export function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw new UsageError(error.message, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}

/** 0 it was done; 1 it could not be done; 2 the command line is wrong. Commander's errors are of the command line. */
export function exitCodeOf(error: unknown): 0 | 1 | 2 {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  return error instanceof UsageError || error instanceof UnknownParameterError ? 2 : 1;
}

/**
 * The one line a person gets for a failure, and the exit code. What is not an error of ours is a bug: its stack
 * follows when COCOON_NET_DEBUG is set.
 */
export function failureLine(error: unknown): string {
  const line = `cocoon-net: ${describeError(error)}`;
  if (error instanceof CocoonError || process.env.COCOON_NET_DEBUG === undefined) return line;
  return `${line}\n${error instanceof Error ? error.stack : ""}`;
}
