import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";

export interface LabProcessOptions {
  readonly name: string;
  readonly logPath: string;
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** A program of the lab, with its output in a file. It dies with the lab, however that ends. */
export class LabProcess implements AsyncDisposable {
  readonly name: string;
  readonly #logPath: string;
  readonly #child: ChildProcess;
  #ended: string | undefined;
  #asked = false;

  constructor({ name, logPath, argv, env }: LabProcessOptions) {
    this.name = name;
    this.#logPath = logPath;
    const log = openSync(logPath, "a");
    // A session of its own: the terminal's Ctrl-C is for the lab, which ends its programs in order.
    this.#child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...argv], {
      stdio: ["ignore", log, log],
      env,
      detached: true,
    });
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

  /** Whether it ended without being asked to. */
  get failed(): boolean {
    return this.#ended !== undefined && this.#ended !== "exit code 0" && !this.#asked;
  }

  async tail(count: number): Promise<string[]> {
    return (await this.#lines()).slice(-count);
  }

  /** The last log lines that are warnings or worse. */
  async warnings(count: number): Promise<string[]> {
    return (await this.#lines()).filter((line) => /"level":"(warn|error|fatal)"/.test(line)).slice(-count);
  }

  /** Without warning: what it would still do in peace is thrown away with the lab anyway. */
  async kill(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#asked = true;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #lines(): Promise<string[]> {
    const text = (await readFile(this.#logPath, "utf8").catch(() => "")).trimEnd();
    return text === "" ? [] : text.split("\n");
  }
}
