import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { CocoonError, UnavailableError } from "@cocoon-net/core";

export interface ChildCommandOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** Told of each line of its progress. */
  readonly onProgress: (line: string) => void;
}

const graceMs = 10_000;

/**
 * Runs a command of this program in a process of its own, and gives what it printed. When the signal aborts, or the time
 * is up, it is asked to stop, and killed if it does not.
 */
export async function runOwnCommand(
  args: readonly string[],
  { signal, timeoutMs, onProgress }: ChildCommandOptions,
): Promise<string> {
  signal.throwIfAborted();
  const [node, program = ""] = process.argv;
  const what = `cocoon-net ${args.join(" ")}`;
  const child = spawn(node ?? process.execPath, [...process.execArgv, program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = () => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), graceMs).unref();
  };
  const late = setTimeout(stop, timeoutMs);
  signal.addEventListener("abort", stop, { once: true });
  try {
    let out = "";
    let last = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    createInterface({ input: child.stderr }).on("line", (line) => {
      last = line;
      onProgress(line);
    });
    const [code] = (await once(child, "close")) as [number | null];
    signal.throwIfAborted();
    if (code === 0) return out;
    if (code === null) {
      throw new UnavailableError(`${what} did not end within ${timeoutMs} ms`, { outcome: "unknown" });
    }
    throw new CocoonError(
      "child",
      last.replace(/^cocoon-net: /, "") || `${what} ended with exit code ${code}`,
    );
  } finally {
    clearTimeout(late);
    signal.removeEventListener("abort", stop);
  }
}
