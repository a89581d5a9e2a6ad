import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** A long-running program of the lab, with its output in a file. It dies with the lab. */
export class LabProcess implements AsyncDisposable {
  readonly name: string;
  readonly logPath: string;
  readonly #child: ChildProcess;
  #ended: string | undefined;

  constructor(name: string, logPath: string, argv: readonly string[], env: NodeJS.ProcessEnv) {
    this.name = name;
    this.logPath = logPath;
    const log = openSync(logPath, "a");
    const [program = "", ...args] = ["setpriv", "--pdeathsig", "KILL", "--", ...argv];
    this.#child = spawn(program, args, { stdio: ["ignore", log, log], env });
    closeSync(log);
    this.#child.once("exit", (code, signal) => {
      this.#ended = signal ?? `exit code ${code}`;
    });
    this.#child.once("error", (error) => {
      this.#ended = error.message;
    });
  }

  /** How it ended, undefined while it runs. */
  get ended(): string | undefined {
    return this.#ended;
  }

  async tail(lines: number): Promise<string> {
    const text = await readFile(this.logPath, "utf8").catch(() => "");
    return text.trimEnd().split("\n").slice(-lines).join("\n");
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    if (this.#ended !== undefined) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await exited;
    clearTimeout(late);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("SIGTERM");
  }
}
