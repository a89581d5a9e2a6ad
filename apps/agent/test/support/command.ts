import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

export interface Finished {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever that is; kills it when `timeoutMs` (default 60,000) were not enough. */
export function finish(
  argv: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number; readonly cwd?: string } = {},
): Promise<Finished> {
  const [program = "", ...args] = argv;
  return new Promise((resolve) => {
    const { env, timeoutMs = 60_000, cwd } = options;
    const settings = { env, cwd, timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: 1 << 24 } as const;
    execFile(program, args, settings, (error, stdout, stderr) => {
      const code = error === null ? 0 : (error.code ?? error.signal ?? "unknown");
      resolve({ code, stdout, stderr });
    });
  });
}

/** The same for what has to succeed. @returns its output */
export async function succeed(argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await finish(argv);
  if (code !== 0) throw new Error(`${argv.join(" ")}: ${code}: ${stderr}${stdout}`);
  return stdout;
}

/** A program that runs until it is ended. It dies with the test process. */
export class Running implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #name: string;
  /** What it has printed so far. */
  output = "";
  ended: string | undefined;

  constructor(name: string, argv: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#name = name;
    const [program = "", ...args] = ["setpriv", "--pdeathsig", "KILL", "--", ...argv];
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream) createInterface({ input: stream }).on("line", (line) => (this.output += `${line}\n`));
    }
    this.#child.once("error", (error) => (this.ended = error.message));
    this.#child.once("close", (code, signal) => (this.ended = signal ?? `exit code ${code}`));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async kill(signal: NodeJS.Signals = "SIGTERM"): Promise<string> {
    if (this.ended === undefined) {
      const closed = once(this.#child, "close");
      this.#child.kill(signal);
      const late = setTimeout(() => this.#child.kill("SIGKILL"), patienceMs);
      await closed;
      clearTimeout(late);
    }
    return this.ended ?? "";
  }

  /** Waits for a text in what it prints from now on, or from `since` on. */
  async says(text: string | RegExp, since = 0): Promise<void> {
    await until(`${this.#name} to say ${text}`, () => {
      const said = this.output.slice(since);
      if (typeof text === "string" ? said.includes(text) : text.test(said)) return true;
      if (this.ended !== undefined) throw new Ended(`${this.#name} ended with ${this.ended}: ${this.output}`);
      return false;
    }).catch((error: unknown) => {
      throw error instanceof Ended ? error : new Error(`${String(error)}; it said: ${this.output}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("SIGKILL");
  }
}

class Ended extends Error {}

/** For what comes in a few seconds, on a machine that is busy with other tests too. */
const patienceMs = 60_000;

/** Looks until `look` answers something other than undefined or false. A look that fails is repeated. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + patienceMs;
  let cause: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    } catch (error) {
      if (error instanceof Ended) throw error;
      cause = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`, { cause });
    await pause(25);
  }
}
