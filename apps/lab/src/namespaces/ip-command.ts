import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs a program to its end. @throws {Error} with what it printed. */
export async function command(program: string, args: readonly string[], timeoutMs = 20_000): Promise<string> {
  try {
    return (await run(program, args, { timeout: timeoutMs, maxBuffer: 1 << 24 })).stdout;
  } catch (error) {
    const { stderr = "", stdout = "" } = error as { stderr?: string; stdout?: string };
    const said = `${stderr}${stdout}`.trim() || (error as Error).message;
    throw new Error(`${program} ${args.join(" ")}: ${said}`, { cause: error });
  }
}

export async function ip(...args: readonly string[]): Promise<string> {
  return command("ip", args);
}

/** Many changes in one process; with `force`, one that fails does not stop the rest. */
export async function ipBatch(
  lines: readonly string[],
  options: { readonly netns?: string; readonly force?: boolean } = {},
): Promise<void> {
  if (lines.length === 0) return;
  const flags = [...(options.netns ? ["-n", options.netns] : []), ...(options.force ? ["-force"] : [])];
  const child = spawn("ip", [...flags, "-batch", "-"], {
    stdio: ["pipe", "ignore", "pipe"],
    timeout: 20_000,
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stdin.on("error", () => {});
  child.stdin.end(`${lines.join("\n")}\n`);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`ip -batch: ${said.trim()}`);
}
