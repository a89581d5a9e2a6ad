import { CocoonError, describeError } from "@cocoon-net/core";

/** Exit codes of the command. */
export const exitCode: { readonly ok: 0; readonly problem: 1; readonly usage: 2 } = {
  ok: 0,
  problem: 1,
  usage: 2,
};

/**
 * The one line a person gets for a failure, and the exit code. What is not an error of ours is a bug: its stack
 * follows when COCOON_NET_DEBUG is set.
 */
export function failureLine(error: unknown): string {
  const line = `cocoon-net: ${describeError(error)}`;
  if (error instanceof CocoonError || process.env.COCOON_NET_DEBUG === undefined) return line;
  return `${line}\n${error instanceof Error ? error.stack : ""}`;
}
