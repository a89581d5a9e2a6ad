import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";

export interface SupervisedOptions {
  readonly name: string;
  readonly logPath: string;
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** It ended although nobody asked it to. It is started again, as a service manager does. */
  readonly onEnded: (name: string, how: string) => void;
}

const restartMs = 1_000;

/** A service of the cluster: killed, stopped and started as the run wants it, and dead when this process is. */
export class SupervisedProcess implements AsyncDisposable {
  readonly name: string;
  readonly #options: SupervisedOptions;
  #child: ChildProcess | undefined;
  #wanted = false;
  #disturbedAt: number = performance.now();
  #stopped = false;
  #restart: NodeJS.Timeout | undefined;

  constructor(options: SupervisedOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** For how long it has run without being touched, in milliseconds; 0 while it does not run. */
  get calmMs(): number {
    return this.#child === undefined || this.#stopped ? 0 : performance.now() - this.#disturbedAt;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  start(): void {
    this.#wanted = true;
    if (this.#child !== undefined) return;
    const { logPath, argv, env, onEnded } = this.#options;
    const log = openSync(logPath, "a");
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...argv], {
      stdio: ["ignore", log, log],
      env,
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    this.touch();
    const ended = (how: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      if (!this.#wanted) return;
      onEnded(this.name, how);
      this.#restart = setTimeout(() => this.start(), restartMs);
    };
    child.once("exit", (code, signal) => ended(signal ?? `exit code ${code}`));
    child.once("error", (error) => ended(error.message));
  }

  /** Ends it, and keeps it so until {@link start}. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#wanted = false;
    clearTimeout(this.#restart);
    this.#stopped = false;
    const child = this.#child;
    if (child === undefined) return;
    const exited = once(child, "exit");
    child.kill(signal);
    child.kill("SIGCONT");
    const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await exited;
    clearTimeout(timer);
    if (this.#child === child) this.#child = undefined;
  }

  pause(): void {
    this.#stopped = true;
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#stopped = false;
    this.#child?.kill("SIGCONT");
    this.touch();
  }

  /** Something was done to what it stands on. */
  touch(): void {
    this.#disturbedAt = performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
