import { processContext } from "./command-context.ts";
import { exitCodeOf, failureLine } from "./failure.ts";
import { createProgram, isToldAlready } from "./program.ts";

const lingerMs = 500;

/** Runs the command line and sets the process's exit code. The first SIGINT or SIGTERM asks it to stop. */
export async function main(argv: readonly string[]): Promise<void> {
  const stop = new AbortController();
  const onSignal = (): void => {
    // The second signal kills, as it does for any program that does not catch it.
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
    stop.abort();
  };
  // `cocoon-net cluster watch | head`: nobody reads any more, and nobody is told.
  let unread = false;
  const onOutputError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== "EPIPE") throw error;
    unread = true;
    stop.abort();
  };
  process.stdout.on("error", onOutputError);
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    await createProgram(processContext(stop.signal)).parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (stop.signal.aborted && isAbort(error, stop.signal)) {
      if (unread) return;
      console.error("cocoon-net: stopped before it was done; running it again goes on from there");
    } else if (!isToldAlready(error)) {
      console.error(failureLine(error));
    }
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
    // A command that is done ends, also where a library still waits for a peer that never answers.
    setTimeout(() => process.exit(), lingerMs).unref();
  }
}

/** Node's own calls reject with an AbortError of theirs; what wraps one names it as its cause. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at === signal.reason || at.name === "AbortError") return true;
  }
  return false;
}
